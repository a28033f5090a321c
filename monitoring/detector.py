"""Both detectors of one adapter version, fed by sessions: a fold with a small constant state.

Knows one reference; knows nothing of stores, aliases or what an alarm leads to. The same sessions in the same order
give the same alarms, also when the state was saved and restored anywhere between.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.basis import Basis
from monitoring.chart import Charts
from monitoring.evidence import Evidence
from monitoring.fleet import count_decayed, run_length
from monitoring.observation import Observation
from monitoring.reference import Reference, mean_scalars

Array = npt.NDArray[np.float64]

SESSION_WINDOW_S = 300.0
"""Further requests of a session this soon after its first one are the same evidence and are not counted again."""
MAX_RECENT_SESSIONS = 1_024
NUM_FURTHEST = 8
LOOKBACK = 8
"""Sessions before the evidence starts to rise that are counted to the drift: the direction had to be learned first."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Layer B's claim about one adapter version. `since` is when the drift seems to have begun."""

    adapter: str
    digest: str
    version: int
    time: float
    since: float
    log_evidence: float
    log_threshold: float
    mmd: float
    num_sessions: int
    channels: dict[str, float]
    """Share of the evidence per channel."""
    request_ids: tuple[str, ...]
    """The requests furthest along the direction of drift, furthest first."""


class Counters(msgspec.Struct, kw_only=True):
    """What a detector has seen and said; the part of its state that is not arrays."""

    num_observations: int = 0
    num_sessions: int = 0
    num_repeats: int = 0
    num_unusable: int = 0
    num_alarms: int = 0
    expected_alarms: float = 0.0
    sessions_per_day: float = 0.0
    last_time: float = 0.0
    run_length: float = 0.0
    rise: float = 0.0
    """Sum of the sessions' pull since it last fell to zero: while it is above, drift may be going on."""
    since: float = 0.0
    recent_times: list[float] = []
    furthest: list[tuple[float, str]] = []
    recent_sessions: dict[str, float] = {}
    watching_since: float = 0.0


class Detector:
    def __init__(self, adapter: str, digest: str, version: int, basis: Basis, reference: Reference) -> None:
        self.adapter, self.digest, self.version = adapter, digest, version
        self._basis = basis
        self.reference = reference
        self.evidence = Evidence(reference.mu, reference.slack, reference.scalars)
        self.charts = Charts.start(reference.mu, reference.thresholds)
        self.counters = Counters()

    def observe(
        self, observations: Sequence[Observation], num_adapters: int, false_alarms_per_day: float
    ) -> list[Alarm]:
        """Take the observations of one batch, in order; the requests of one session count as their mean."""
        self.counters.num_observations += len(observations)
        usable = [o for o in observations if o.is_finite() and o.embedding.size == self._basis.hidden_size]
        self.counters.num_unusable += len(observations) - len(usable)
        if not usable:
            return []
        phi = self._basis.phi(np.stack([each.embedding for each in usable]))
        sessions: dict[str, list[int]] = {}
        for i, each in enumerate(usable):
            sessions.setdefault(each.session or each.request_id, []).append(i)
        alarms = []
        for name, rows in sessions.items():
            first = usable[rows[0]]
            if self._is_repeat(name, first.time):
                self.counters.num_repeats += len(rows)
                continue
            budget = run_length(self._arrive(first.time), num_adapters, false_alarms_per_day)
            scalars = mean_scalars([usable[i].scalars for i in rows])
            if (alarm := self._take(first, phi[rows].mean(axis=0), scalars, budget)) is not None:
                alarms.append(alarm)
        return alarms

    @property
    def log_threshold(self) -> float:
        return math.log(self.counters.run_length) if self.counters.run_length else math.inf

    def current_mean(self) -> Array:
        """Where the recent sessions lie in feature space (D,)."""
        mean: Array = self.reference.mu + self.charts.means[0]
        return mean

    def _is_repeat(self, session: str, time: float) -> bool:
        """Whether the session has counted within the window; remembers it otherwise."""
        recent = self.counters.recent_sessions
        name = hashlib.blake2b(session.encode(), digest_size=8).hexdigest()
        if abs(time - recent.get(name, -math.inf)) < SESSION_WINDOW_S:
            return True
        recent.pop(name, None)
        recent[name] = time
        while len(recent) > MAX_RECENT_SESSIONS:
            del recent[next(iter(recent))]
        return False

    def _arrive(self, time: float) -> float:
        """Count a session's arrival; sessions a day."""
        counters = self.counters
        counters.sessions_per_day = count_decayed(counters.sessions_per_day, time - counters.last_time)
        counters.last_time = max(counters.last_time, time)
        return counters.sessions_per_day

    def _take(self, first: Observation, phi: Array, scalars: Mapping[str, float], budget: float) -> Alarm | None:
        """One session: its first request, its mean features (D,) and scalars."""
        counters = self.counters
        log_evidence = self.evidence.update(phi, scalars)
        was_watching = self.charts.watching
        if self.charts.update(phi) and not was_watching:
            counters.watching_since = first.time
        counters.num_sessions += 1
        counters.run_length = budget
        counters.expected_alarms += 1.0 / budget
        self._trace_onset(first)
        if log_evidence < math.log(budget):
            return None
        counters.num_alarms += 1
        alarm = self._alarm(first.time, log_evidence)
        self.evidence.reset()
        return alarm

    def _trace_onset(self, first: Observation) -> None:
        """Follow where the evidence began to rise, and who carried it furthest since."""
        counters = self.counters
        counters.recent_times = [*counters.recent_times, first.time][-LOOKBACK:]
        counters.rise = max(0.0, counters.rise + self.evidence.pull)
        if counters.rise == 0.0:
            counters.since = counters.recent_times[0]
            counters.furthest = []
        surprise = self.evidence.phi.surprise
        counters.furthest = sorted([*counters.furthest, (surprise, first.request_id)], reverse=True)[:NUM_FURTHEST]

    def _alarm(self, time: float, log_evidence: float) -> Alarm:
        return Alarm(
            adapter=self.adapter,
            digest=self.digest,
            version=self.version,
            time=time,
            since=self.counters.since,
            log_evidence=log_evidence,
            log_threshold=self.log_threshold,
            mmd=self.charts.mmd(),
            num_sessions=self.counters.num_sessions,
            channels={name: round(share, 4) for name, share in self.evidence.shares().items() if share >= 1e-4},
            request_ids=tuple(request_id for _, request_id in self.counters.furthest),
        )

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything that later verdicts depend on, as arrays."""
        counters = np.frombuffer(msgspec.json.encode(self.counters), dtype=np.uint8)
        return {
            "counters": counters,
            **{f"evidence.{name}": array for name, array in self.evidence.state().items()},
            **{f"charts.{name}": array for name, array in self.charts.state().items()},
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.counters = msgspec.json.decode(state["counters"].tobytes(), type=Counters)
        self.evidence.restore(_within(state, "evidence."))
        self.charts.restore(_within(state, "charts."))


def _within(state: Mapping[str, npt.NDArray[np.generic]], prefix: str) -> dict[str, npt.NDArray[np.generic]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}

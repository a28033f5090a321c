"""The monitor: takes the lease, folds new observations, opens and pursues episodes, saves its state.

Everything durable is in the bucket, so a monitor may die at any instruction and another go on: what was folded after
the last snapshot is folded again and gives the same alarms, and every step that leaves this process is idempotent.
One monitor serves one tenant; any number may run and one of them works.

    t/<tenant>/monitor/_lease/            whose turn it is
    t/<tenant>/monitor/_state/<term>.safetensors    the fold, saved by the holder of that term
    t/<tenant>/monitor/<adapter>/log/     episodes
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from monitoring.detector import Alarm
from monitoring.fold import Fold
from monitoring.lease import Lease
from monitoring.observation import decode
from monitoring.pursuit import Pursuit
from monitoring.references import References
from monitoring.sensor import observations_prefix
from monitoring.status import NO_PRODUCTION, NO_TRAFFIC, describe, unobserved
from registry.adapters import Registry
from registry.errors import Corrupt, LorimerError, NotFound
from registry.settings import Settings

MAX_OBJECTS = 256
"""Objects folded by one poll at most: a long backlog must not outlast the lease."""
SNAPSHOT_S = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Poll:
    """What one poll did. A monitor that does not hold the lease only looks."""

    leading: bool
    num_objects: int = 0
    num_observations: int = 0
    alarms: tuple[Alarm, ...] = ()
    more: bool = False
    """Whether objects are left over."""


class Monitor:
    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        owner: str | None = None,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._owner = owner or f"{registry.actor}-{secrets.token_hex(4)}"
        self._root = f"t/{registry.tenant}/monitor"
        self._lease = Lease(registry.store, f"{self._root}/_lease", self._owner, settings.lease_s, clock)
        self._references = References(registry)
        self._pursuit = Pursuit(registry, self._references, clock, self._owner)
        self._fold = Fold(settings.false_alarms_per_day)
        self._term: int | None = None
        self._saved_at = 0.0
        self._dirty = False
        self._unopened: list[tuple[Alarm, str]] = []
        self._stale: set[str] = set()
        self._statuses: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def poll(self) -> Poll:
        """Fold what is new and take the steps it calls for; Unavailable when the store does not answer."""
        with self._lock:
            term = self._lease.hold()
            if term != self._term:
                self._term = None
                if term is not None:
                    self._load()
                self._term = term
            if term is None:
                return Poll(leading=False)
            poll = self._take_new()
            self._open_episodes()
            for adapter in self._fold.adapters():
                if self._pursuit.history(adapter).current is not None:
                    self._stale.add(adapter)
                    self._pursuit.advance(adapter, self._fold.inbox.newest)
            self._report(self._stale)
            self._stale.clear()
            if self._dirty and self._clock() - self._saved_at >= SNAPSHOT_S:
                self._save(term)
            return poll

    def run(self, stop: threading.Event, on_poll: Callable[[Poll], None] = lambda _: None) -> None:
        """Poll until `stop`; a store that does not answer is waited for."""
        while not stop.is_set():
            try:
                poll = self.poll()
                on_poll(poll)
                if poll.more:
                    continue
            except LorimerError as error:
                log.warning("monitor cannot go on for now", error=str(error))
            stop.wait(self._settings.monitor_poll_s)
        self.close()

    def close(self) -> None:
        """Save and hand over."""
        with self._lock, suppress(LorimerError):
            if self._term is not None and self._dirty and not self._unopened:
                self._save(self._term)
            self._lease.release()
            self._term = None

    @property
    def leading(self) -> bool:
        return self._term is not None

    def adapters(self) -> list[str]:
        """Adapters that have been observed."""
        return sorted(self._statuses)

    def status(self, adapter: str) -> dict[str, Any]:
        """What the last poll knew of one adapter, ready for JSON; reads nothing and never waits."""
        return self._statuses.get(adapter) or unobserved(adapter)

    def approve(self, adapter: str, actor: str) -> str:
        """Let the retraining of the adapter's episode begin; returns the episode."""
        return self._pursuit.log(adapter).approve(actor).key

    def _take_new(self) -> Poll:
        prefix = observations_prefix(self._registry.tenant)
        num_objects, num_observations = 0, 0
        alarms: list[Alarm] = []
        for key in self._fold.inbox.pending(self._registry.store, prefix, self._clock()):
            if num_objects == MAX_OBJECTS:
                return Poll(True, num_objects, num_observations, tuple(alarms), more=True)
            num_objects += 1
            self._dirty = True
            try:
                observations = decode(self._registry.store.get(key), key)
            except Corrupt as error:
                log.warning("observation object passed over", error=str(error))
                self._fold.skip(key)
                continue
            num_observations += len(observations)
            self._stale.update(each.adapter for each in observations)
            for alarm in self._fold.take(key, observations, self._references.find):
                alarms.append(alarm)
                self._unopened.append((alarm, key))
        return Poll(True, num_objects, num_observations, tuple(alarms))

    def _open_episodes(self) -> None:
        """Put every alarm on record. No snapshot is saved before that, so a crash here repeats the alarm."""
        while self._unopened:
            alarm, cause = self._unopened[0]
            episode = self._pursuit.open(alarm, cause, self._fold)
            del self._unopened[0]
            log.info(
                "drift alarm",
                adapter=alarm.adapter,
                digest=alarm.digest[:19],
                log_evidence=round(alarm.log_evidence, 2),
                log_threshold=round(alarm.log_threshold, 2),
                episode=episode.key if episode else None,
            )

    def _report(self, adapters: Iterable[str]) -> None:
        """Renew what `status` answers."""
        for adapter in adapters:
            history, tally = self._pursuit.history(adapter), self._fold.tallies[adapter]
            production = self._pursuit.production(adapter)
            detector = self._fold.detectors.get((adapter, production)) if production else None
            missing = self._references.missing.get(production, NO_TRAFFIC) if production else NO_PRODUCTION
            self._statuses[adapter] = describe(
                adapter,
                tally,
                detector,
                history,
                waiting_for=self._pursuit.waiting_for(adapter),
                missing=missing,
            )

    def _load(self) -> None:
        """Start from the newest snapshot that can be read, or from the first observation."""
        self._fold = Fold(self._settings.false_alarms_per_day)
        self._dirty = False
        self._unopened, self._statuses = [], {}
        for key in reversed([*self._registry.store.list(f"{self._root}/_state/")]):
            try:
                self._fold.restore(self._registry.store.get(key), self._references.find)
                self._stale.update(self._fold.adapters())
                return
            except (Corrupt, NotFound) as error:
                log.warning("monitor snapshot passed over", key=key, error=str(error))
                self._fold = Fold(self._settings.false_alarms_per_day)

    def _save(self, term: int) -> None:
        """Overwrite our own term's snapshot; the ones before the previous term are no longer needed."""
        key = f"{self._root}/_state/{term:020d}.safetensors"
        self._registry.store.put(key, self._fold.to_bytes())
        self._saved_at, self._dirty = self._clock(), False
        older = [each for each in self._registry.store.list(f"{self._root}/_state/") if each < key]
        for each in older[:-1]:
            self._registry.store.delete(each)

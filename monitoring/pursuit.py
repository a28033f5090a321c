"""Drives episodes that are going on: files the retraining when the trigger allows, follows its job, ends the cooldown.

Takes every step from what the bucket says, so it may be repeated or continued by another monitor at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from monitoring.attribution import attribute
from monitoring.detector import Alarm
from monitoring.episodes import Episode, EpisodeLog, History
from monitoring.fold import Fold
from monitoring.references import References
from monitoring.trigger import cooldown_s, decide, is_harmed, job_key, job_spec, usable_examples
from registry.adapters import Registry
from registry.captures import Captured, read_captures
from registry.errors import Conflict, NotFound, Refused
from registry.jobs import Job, Jobs
from registry.names import DEFAULT_ALIAS
from registry.policy import Policy

EXAMINE_S = 2.0
"""Captures are counted again at most this often per adapter."""
GATHER_S = 60.0
"""While corrections keep coming in, a retraining that might begin waits for them, but no longer than this."""
CAPTURE_MARGIN_S = 1.0
"""A request's capture and its observation carry slightly different times."""


class Pursuit:
    def __init__(
        self, registry: Registry, references: References, clock: Callable[[], float], actor: str = "monitor"
    ) -> None:
        self._registry = registry
        self._references = references
        self._clock = clock
        self._actor = actor
        self._jobs = Jobs(registry.store, registry.tenant, clock)
        self._logs: dict[str, EpisodeLog] = {}
        self._histories: dict[str, History] = {}
        self._examined_at: dict[str, float] = {}
        self._waiting_for: dict[str, tuple[str, ...]] = {}
        self._gathering: dict[str, tuple[float, int]] = {}
        """Episode -> since when a retraining could begin, and the examples there were when last examined."""
        self._lock = Lock()

    def history(self, adapter: str) -> History:
        """The adapter's episodes as last read; reads them the first time."""
        with self._lock:
            known = self._histories.get(adapter)
        return known if known is not None else self.refresh(adapter)

    def refresh(self, adapter: str) -> History:
        return self._remember(adapter, self.log(adapter).fold())

    def waiting_for(self, adapter: str) -> tuple[str, ...]:
        """What stood against a retraining when it was last examined."""
        return self._waiting_for.get(adapter, ())

    def log(self, adapter: str) -> EpisodeLog:
        with self._lock:
            if adapter not in self._logs:
                store, tenant = self._registry.store, self._registry.tenant
                self._logs[adapter] = EpisodeLog(store, tenant, adapter, self._clock, self._actor)
            return self._logs[adapter]

    def open(self, alarm: Alarm, cause: str, fold: Fold) -> Episode | None:
        """Begin an episode if the alarm is about the version in production; None otherwise."""
        if self.production(alarm.adapter) != alarm.digest:
            return None
        detector = fold.detectors[alarm.adapter, alarm.digest]
        newest = {adapter: each.reference for (adapter, _), each in fold.detectors.items()}
        references = newest | {alarm.adapter: detector.reference}
        attribution = attribute(alarm.adapter, detector.current_mean(), references, alarm.channels)
        episode = self.log(alarm.adapter).open(alarm, attribution, cause)
        self.refresh(alarm.adapter)
        return episode

    def advance(self, adapter: str, through: str) -> History:
        """Take whatever steps the episode is ready for; `through` is the newest observation object folded."""
        history = self.history(adapter)
        episode = history.current
        if episode is None:
            return history
        try:
            match episode.state:
                case "DRIFT":
                    history = self._examine(adapter, episode, through)
                case "RETRAINING":
                    history = self._follow(adapter, history, episode)
                case "COOLDOWN" if self._clock() >= episode.cooldown_until:
                    moved = self.log(adapter).move(episode.key, "OK", reason="cooldown over", through=through)
                    history = self._remember(adapter, moved)
        except Conflict:
            history = self.refresh(adapter)  # another monitor or a person took a step first
        return history

    def _examine(self, adapter: str, episode: Episode, through: str) -> History:
        """DRIFT: has the version been replaced meanwhile, or is it time to retrain?"""
        now = self._clock()
        if now - self._examined_at.get(adapter, -EXAMINE_S) < EXAMINE_S:
            return self.history(adapter)
        self._examined_at[adapter] = now
        if self.production(adapter) != episode.alarm.digest:
            moved = self.log(adapter).move(
                episode.key, "OK", reason="another version is in production", through=through
            )
            return self._remember(adapter, moved)
        episode = self.refresh(adapter).current or episode
        since = episode.alarm.since - CAPTURE_MARGIN_S
        captures = read_captures(self._registry.store, self._registry.tenant, adapter, since)
        examples = usable_examples(captures)
        decision = decide(self._policy(adapter), episode, len(examples), harmed=is_harmed(captures))
        reasons = decision.reasons
        if decision.file and self._is_gathering(episode.key, len(examples), now):
            reasons = (f"{len(examples)} usable examples, and more are coming in",)
        elif decision.file:
            return self._retrain(adapter, episode, examples, reasons)
        self._waiting_for[adapter] = reasons
        return self.history(adapter)

    def _is_gathering(self, episode: str, num_examples: int, now: float) -> bool:
        """Whether examples have come in since the last look, and there is patience left."""
        since, before = self._gathering.get(episode, (now, 0))
        self._gathering[episode] = (since, num_examples)
        return num_examples > before and now - since < GATHER_S

    def _retrain(self, adapter: str, episode: Episode, examples: Sequence[Captured], reasons: Sequence[str]) -> History:
        """File the job, then say so: after a crash in between, the same job is found filed."""
        self._waiting_for.pop(adapter, None)
        self._gathering.pop(episode.key, None)
        profile = self._references.find(adapter, episode.alarm.digest)
        key = job_key(adapter, episode.alarm.digest, profile.reference_sha256 if profile else "", episode.key)
        self._jobs.submit(key, job_spec(adapter, episode, examples), actor=self._actor)
        reason = "; ".join(reasons)
        return self._remember(adapter, self.log(adapter).move(episode.key, "RETRAINING", reason=reason, job=key))

    def _follow(self, adapter: str, history: History, episode: Episode) -> History:
        """RETRAINING: has the job ended, and did its challenger win?"""
        assert episode.job is not None, "a retraining has a job"
        job = self._jobs.get(episode.job)
        if not job.finished:
            return history
        promoted, reason = _verdict(job)
        rejected = 0 if promoted else history.rejected_in_row + 1
        moved = self.log(adapter).move(
            episode.key,
            "PROMOTED" if promoted else "REJECTED",
            "COOLDOWN",
            reason=reason,
            digest=promoted,
            cooldown_s=cooldown_s(self._policy(adapter), rejected),
        )
        return self._remember(adapter, moved)

    def production(self, adapter: str) -> str | None:
        """Digest of the version that `prod` means now."""
        try:
            return self._registry.state(adapter).aliases.get(DEFAULT_ALIAS)
        except (NotFound, Refused):  # or nobody whom this monitor trusts vouches for it
            return None

    def _policy(self, adapter: str) -> Policy:
        try:
            return self._registry.policy(adapter)
        except (NotFound, Refused):
            return Policy(retrain="off")

    def _remember(self, adapter: str, history: History) -> History:
        with self._lock:
            self._histories[adapter] = history
        return history


def _verdict(job: Job) -> tuple[str | None, str]:
    """(digest of the promoted challenger or None, why)."""
    if job.state != "succeeded":
        return None, f"the job {job.state}: {job.error or 'no reason given'}"
    digest = job.result.get("digest")
    reasons = job.result.get("reasons", ())
    told = "; ".join(str(reason) for reason in reasons) if isinstance(reasons, list | tuple) else str(reasons)
    if job.result.get("promoted") and isinstance(digest, str):
        return digest, told or "the challenger won"
    return None, told or "the challenger did not win"

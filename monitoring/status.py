"""What a monitor tells of one adapter, as plain values ready for JSON. Describes; reads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from monitoring.chart import RATES
from monitoring.detector import Detector
from monitoring.episodes import Episode, History
from monitoring.fold import Tally

NO_TRAFFIC = "the version in production has had no traffic yet"
NO_PRODUCTION = "no version is in production"


def describe(
    adapter: str,
    tally: Tally,
    detector: Detector | None,
    history: History,
    *,
    waiting_for: Sequence[str] = (),
    missing: str = NO_TRAFFIC,
) -> dict[str, Any]:
    """`detector` is that of the version in production, `missing` why there is none."""
    watching = detector is not None and detector.charts.watching
    state = "WATCH" if history.state == "OK" and watching else history.state
    episode = history.current or (history.past[-1] if history.past else None)
    return {
        "adapter": adapter,
        "state": state,
        "observations": tally.num_observations,
        "alarms": tally.num_alarms,
        "expected_false_alarms": tally.expected_alarms,
        "episodes": history.num_opened,
        "retrained": dict(history.outcomes),
        "waiting_for": list(waiting_for) if state == "DRIFT" else [],
        "episode": _episode(episode) if episode else None,
        "unwatched": None if detector else missing,
        **_detector(detector),
    }


def unobserved(adapter: str) -> dict[str, Any]:
    """The same for an adapter nothing is known of."""
    return describe(adapter, Tally(), None, History(adapter=adapter))


def _detector(detector: Detector | None) -> dict[str, Any]:
    if detector is None:
        names = ("digest", "version", "sessions", "log_evidence", "log_threshold", "mmd", "charts", "channels")
        return dict.fromkeys(names)
    charts = zip(RATES, detector.charts.values(), detector.charts.thresholds, strict=True)
    return {
        "digest": detector.digest,
        "version": detector.version,
        "sessions": detector.counters.num_sessions,
        "log_evidence": max(detector.evidence.log_evidence, 0.0),
        "log_threshold": detector.log_threshold if math.isfinite(detector.log_threshold) else None,
        "mmd": detector.charts.mmd(),
        "charts": {f"1/{round(1 / rate)}": value / threshold for rate, value, threshold in charts},
        "channels": detector.evidence.shares(),
    }


def _episode(episode: Episode) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(episode)
    return told

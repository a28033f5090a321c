"""The monitor's state: a fold over observation objects, one detector per adapter version, saved and restored whole.

Pure but for looking up references. The same objects in the same order give the same alarms, wherever it was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.detector import Alarm, Detector
from monitoring.inbox import Inbox
from monitoring.observation import Observation
from monitoring.references import Profile
from monitoring.tensors import pack, unpack
from registry.errors import Corrupt

MAX_VERSIONS = 4
"""Versions of one adapter whose detectors are kept; the one silent for longest goes first."""
_FORMAT = "lorimer-monitor/1"

Find = Callable[[str, str], Profile | None]
Key = tuple[str, str]
"""Adapter and digest."""


class Tally(msgspec.Struct, kw_only=True):
    """Totals per adapter that outlive its versions."""

    num_observations: int = 0
    num_alarms: int = 0
    expected_alarms: float = 0.0


class _Header(msgspec.Struct, kw_only=True):
    inbox: Inbox
    tallies: dict[str, Tally]
    detectors: list[Key]
    num_corrupt: int


class Fold:
    def __init__(self, false_alarms_per_day: float) -> None:
        self._false_alarms_per_day = false_alarms_per_day
        self.inbox = Inbox()
        self.detectors: dict[Key, Detector] = {}
        """In the order in which they were last fed."""
        self.tallies: dict[str, Tally] = {}
        self.num_corrupt = 0

    def take(self, key: str, observations: Sequence[Observation], find: Find) -> list[Alarm]:
        """Fold one object; its alarms, in order."""
        groups: dict[Key, list[Observation]] = {}
        for each in observations:
            groups.setdefault((each.adapter, each.digest), []).append(each)
        for group in groups:
            find(*group)  # an unreachable store must fail here, before any detector has taken a step
        alarms = [alarm for group, members in groups.items() for alarm in self._feed(group, members, find)]
        self.inbox.mark(key)
        return alarms

    def skip(self, key: str) -> None:
        """Pass over an object that cannot be read."""
        self.num_corrupt += 1
        self.inbox.mark(key)

    def adapters(self) -> list[str]:
        """Every adapter that ever had an observation."""
        return sorted(self.tallies)

    def to_bytes(self) -> bytes:
        header = _Header(
            inbox=self.inbox, tallies=self.tallies, detectors=list(self.detectors), num_corrupt=self.num_corrupt
        )
        arrays = {
            f"{i}.{name}": array
            for i, detector in enumerate(self.detectors.values())
            for name, array in detector.state().items()
        }
        arrays["header"] = np.frombuffer(msgspec.json.encode(header), dtype=np.uint8)
        return pack(arrays, {"format": _FORMAT})

    def restore(self, data: bytes, find: Find) -> None:
        """Become what was saved. A detector whose version is gone is dropped."""
        arrays, metadata = unpack(data, "monitor snapshot")
        if metadata.get("format") != _FORMAT or "header" not in arrays:
            raise Corrupt("the monitor snapshot has an unknown format")
        header = msgspec.json.decode(arrays["header"].tobytes(), type=_Header)
        self.inbox, self.tallies, self.num_corrupt = header.inbox, header.tallies, header.num_corrupt
        self.detectors = {}
        for i, (adapter, digest) in enumerate(header.detectors):
            if (profile := find(adapter, digest)) is not None:
                detector = _detector(profile)
                detector.restore(_numbered(arrays, i))
                self.detectors[adapter, digest] = detector

    def _feed(self, key: Key, members: Sequence[Observation], find: Find) -> list[Alarm]:
        tally = self.tallies.setdefault(key[0], Tally())
        tally.num_observations += len(members)
        detector = self.detectors.pop(key, None)
        if detector is None:
            if (profile := find(*key)) is None:
                return []
            detector = _detector(profile)
        self.detectors[key] = detector
        self._prune(key[0])
        watched = len({adapter for adapter, _ in self.detectors})
        before = detector.counters.expected_alarms
        alarms = detector.observe(members, watched, self._false_alarms_per_day)
        tally.num_alarms += len(alarms)
        tally.expected_alarms += detector.counters.expected_alarms - before
        return alarms

    def _prune(self, adapter: str) -> None:
        versions = [key for key in self.detectors if key[0] == adapter]
        for key in versions[:-MAX_VERSIONS]:
            del self.detectors[key]


def _detector(profile: Profile) -> Detector:
    return Detector(profile.adapter, profile.digest, profile.version, profile.basis, profile.reference)


def _numbered(arrays: dict[str, npt.NDArray[np.generic]], i: int) -> dict[str, npt.NDArray[np.generic]]:
    prefix = f"{i}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

"""What may not be read any more and must be taken out, whoever asked for it: all erasures as one rule. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from registry.captures.records import CaptureRecord, Record

Pseudonym = Callable[[str], str]


@dataclass(frozen=True)
class Rule:
    """Equal rules take out the same."""

    until: Mapping[str, float] = field(default_factory=dict)
    """Person, and up to when their records must go."""
    request_ids: frozenset[str] = frozenset()
    """Requests whose feedback must go, whoever gave it."""

    def __bool__(self) -> bool:
        return bool(self.until or self.request_ids)

    def covers(self, record: Record, pseudonym: Pseudonym) -> bool:
        if isinstance(record, CaptureRecord):
            return self._covered(people_of(record, pseudonym), record.asked_at or record.time)
        return record.request_id in self.request_ids or self._covered(record.users, record.time)

    def _covered(self, people: Iterable[str], when: float) -> bool:
        return any(when <= self.until[person] for person in people if person in self.until)


def people_of(record: CaptureRecord, pseudonym: Pseudonym) -> tuple[str, ...]:
    """Who asked. Where users were not kept apart, the session may be a user in clear."""
    return (pseudonym(record.session),) if record.users is None else record.users

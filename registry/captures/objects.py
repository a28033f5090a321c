"""Where captures lie, and how an object is replaced by a smaller one without losing what stays. Knows no reason to.

An object is written once and never changed. To take records out, a successor is written that holds the others, and
then the object is deleted: whoever dies between the two leaves records twice, which readers tell by their ids, and
never none. A successor is named by what it holds, so doing it again writes nothing new; and it sorts behind what it
replaces, so that a listing that goes on meanwhile meets one of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from registry.captures.records import Record, lines_of, pack, unpack
from registry.errors import Corrupt, NotFound
from registry.names import check_name
from registry.store import Store, create_surely
from registry.ulid import time_of, ulid

SUFFIX = ".jsonl.gz"
MAX_SUCCESSIONS = 100
_NAME = re.compile(r"(?P<stem>.+?)(\.r(?P<succession>\d{4})-[0-9a-f]{16})?\.jsonl\.gz")


class CaptureObjects:
    """All capture objects of one tenant."""

    def __init__(self, store: Store, tenant: str) -> None:
        self.store = store
        self.prefix = f"t/{check_name(tenant, 'tenant')}/captures/"

    def create(self, records: list[Record], now: float, gateway_id: str) -> str:
        """Durable when it returns the key."""
        key = f"{self.prefix}{day_of(now)}/{ulid(now)}-{gateway_id}{SUFFIX}"
        if not create_surely(self.store, key, pack(lines_of(records))):
            raise Corrupt(f"{key} is there already, with other bytes: two writers share a name")
        return key

    def listed(self, since: float = 0.0) -> Iterator[str]:
        """Everything written on the day of `since` or later, oldest first."""
        return self.store.list(self.prefix, start_after=f"{self.prefix}{day_of(since)}")

    def days(self) -> list[str]:
        return list(self.store.folders(self.prefix))

    def of_day(self, day: str) -> list[str]:
        return list(self.store.list(f"{self.prefix}{day}/"))

    def read(self, key: str) -> list[Record]:
        """The records of an object, or of its successors when it was replaced meanwhile."""
        for _ in range(MAX_SUCCESSIONS):
            try:
                return unpack(key, self.store.get(key))
            except NotFound:
                successors = [each for each in self.store.list(stem_of(key)) if each != key]
                if len(successors) != 1:
                    return [record for each in successors for record in self.read(each)]
                (key,) = successors
        raise Corrupt(f"{key} is replaced faster than it can be read", hint="try again")

    def thin(self, key: str, stays: Callable[[Record], bool]) -> tuple[list[Record], str | None]:
        """Take out of one object what does not stay; what was taken out, and the key of its successor, if there is one.

        An object of which everything stays is left alone; one of which nothing stays is deleted.
        """
        try:
            records = unpack(key, self.store.get(key))
        except NotFound:  # replaced by somebody else, who looks after what replaced it
            return [], None
        kept = [record for record in records if stays(record)]
        if len(kept) == len(records):
            return [], None
        successor = None
        if kept:
            lines = lines_of(kept)
            successor = _successor(key, lines)
            create_surely(self.store, successor, pack(lines))  # the same name holds the same lines
        self.store.delete(key)
        return [record for record in records if not stays(record)], successor


def day_of(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")


def written_at(key: str) -> float:
    """When the records of an object were first written, in seconds; Corrupt for what no gateway wrote."""
    try:
        return time_of(key.rpartition("/")[2])
    except ValueError as error:
        raise Corrupt(f"{key} holds no captures", hint="move it elsewhere") from error


def is_successor(key: str) -> bool:
    return (match := _NAME.fullmatch(key)) is not None and match["succession"] is not None


def stem_of(key: str) -> str:
    """What an object and all its successors begin with."""
    match = _NAME.fullmatch(key)
    return key if match is None else match["stem"]


def _successor(key: str, lines: bytes) -> str:
    match = _NAME.fullmatch(key)
    succession = int(match["succession"] or 0) + 1 if match is not None else 1
    return f"{stem_of(key)}.r{succession:04}-{hashlib.sha256(lines).hexdigest()[:16]}{SUFFIX}"

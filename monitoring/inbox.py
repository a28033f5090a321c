"""Which observation objects are still to be folded: a cursor that tolerates objects arriving out of order.

Objects are named by the time they were written. One is taken only when it is a little old, so that several gateways'
objects are folded in the order of their names, which is what makes a replay equal. One that comes later still is taken
when it comes, within `LATE_S`. Knows names, not contents.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from registry.store import Store
from registry.ulid import ALPHABET

SETTLE_S = 1.0
LATE_S = 600.0


class Inbox(msgspec.Struct, kw_only=True):
    """Everything up to `floor` is done; of what follows, `done`."""

    floor: str = ""
    done: list[str] = []
    newest: str = ""

    def pending(self, store: Store, prefix: str, now: float) -> Iterator[str]:
        """Settled keys not folded yet, in order of their names."""
        done = set(self.done)
        for key in store.list(prefix, start_after=self.floor):
            if key not in done:
                if written_at(key) > now - SETTLE_S:
                    break
                yield key

    def mark(self, key: str) -> None:
        """The object has been folded; forget those too old to matter for late arrivals."""
        self.done.append(key)
        self.newest = max(self.newest, key)
        horizon = written_at(self.newest) - LATE_S
        old = [each for each in self.done if written_at(each) < horizon]
        if old:
            self.floor = max(self.floor, *old)
            self.done = [each for each in self.done if each > self.floor]


def written_at(key: str) -> float:
    """The time in an object's name, in seconds; 0 for a name that is none of ours."""
    name = key.rpartition("/")[2][:10]
    if len(name) < 10 or any(letter not in ALPHABET for letter in name):
        return 0.0
    value = 0
    for letter in name:
        value = value * 32 + ALPHABET.index(letter)
    return value / 1000.0

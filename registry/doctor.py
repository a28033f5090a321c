"""Can this store hold a registry? Asks the real bucket and prefix, and believes only what it sees.

`probe` measures create-if-absent, races over separate connections, listing, ranged reads and deletion. Knows nothing
of what is done with its verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Protocol, runtime_checkable

import msgspec

from registry.errors import LorimerError, NotFound
from registry.notices import SKEW_S
from registry.store import Store, create_surely
from registry.ulid import ulid

RACES = "races"
RACERS = 8
ROUNDS = 20


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """`passed` is None for a fact that decides nothing."""

    name: str
    passed: bool | None
    detail: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    passed: bool
    checks: tuple[Check, ...]

    @property
    def failures(self) -> list[str]:
        return [f"{check.name}: {check.detail}" for check in self.checks if check.passed is False]

    @property
    def holds_one_writer(self) -> bool:
        """Whether all that a single writer relies on is sound: everything but the races."""
        return all(check.passed is not False or check.name == RACES for check in self.checks)

    @property
    def in_words(self) -> str:
        if self.passed:
            return f"{self.url} can hold a registry"
        if self.holds_one_writer:
            return f"{self.url} can hold a registry with a single writer, or one that is only read"
        return f"{self.url} can hold a registry that is only read"


@runtime_checkable
class Connectable(Protocol):
    def another(self) -> Store:
        """The same place over connections of its own."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    def refuses_wrong_sha256(self, key: str) -> bool: ...

    def versioning(self) -> str: ...

    def server_time(self) -> float | None: ...


def probe(
    store: Store,
    *,
    racers: int = RACERS,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.time,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Try everything the registry relies on, below a prefix of its own, and clean up."""
    prefix = f"doctor/{ulid(clock())}"
    try:
        checks = [
            *_check_create(store, f"{prefix}/create"),
            _check_races(store, f"{prefix}/race", racers, rounds, progress),
            _check_list(store, f"{prefix}/list"),
            _check_overwrite(store, f"{prefix}/put"),
            _check_range(store, f"{prefix}/range"),
            _check_delete(store, f"{prefix}/delete"),
            *_facts(store, f"{prefix}/sha256", clock),
        ]
    finally:
        with suppress(LorimerError):
            for key in list(store.list(f"{prefix}/")):
                store.delete(key)
    return Verdict(url=store.url, passed=all(check.passed is not False for check in checks), checks=tuple(checks))


def _check_create(store: Store, key: str) -> list[Check]:
    first = store.create(key, b"first")
    second = store.create(key, b"second")
    body = store.get(key)
    return [
        Check(name="create absent", passed=first, detail="written" if first else "refused although absent"),
        Check(name="create present", passed=not second, detail="refused" if not second else "accepted a second time"),
        Check(name="body unchanged", passed=body == b"first", detail="kept" if body == b"first" else "overwritten"),
    ]


def _check_races(
    store: Store, prefix: str, racers: int, rounds: int, progress: Callable[[int, int], None] | None
) -> Check:
    """Each round, every racer creates one key at the same moment; exactly one may win, and its bytes must stay."""
    stores = [store.another() if isinstance(store, Connectable) else store for _ in range(racers)]
    barrier = Barrier(racers)
    bad: list[str] = []

    def race(racer: int, key: str) -> bool:
        barrier.wait(timeout=60)
        return create_surely(stores[racer], key, b"racer %d" % racer)

    with ThreadPoolExecutor(racers) as pool:
        for number in range(rounds):
            key = f"{prefix}/{number:04d}"
            won = list(pool.map(race, range(racers), [key] * racers))
            winners = [racer for racer in range(racers) if won[racer]]
            if len(winners) != 1:
                bad.append(f"round {number}: {len(winners)} winners")
            elif store.get(key) != b"racer %d" % winners[0]:
                bad.append(f"round {number}: the winner's bytes were replaced")
            if progress is not None:
                progress(number + 1, rounds)
    detail = f"{rounds - len(bad)}/{rounds} rounds of {racers} racers had exactly one winner"
    return Check(name=RACES, passed=not bad, detail="; ".join([detail, *bad[:2]]))


def _check_list(store: Store, prefix: str) -> Check:
    """What was written is listed at once, in order, and `start_after` is exclusive."""
    keys = [f"{prefix}/{number:03d}" for number in range(5)]
    for number, key in enumerate(keys):
        create_surely(store, key, b"x")
        if list(store.list(f"{prefix}/")) != keys[: number + 1]:
            return Check(name="list after write", passed=False, detail=f"{key} was not listed right after its write")
    if list(store.list(f"{prefix}/", start_after=keys[2])) != keys[3:]:
        return Check(name="list after write", passed=False, detail="start-after is not honoured")
    folder = prefix.rpartition("/")[2]
    if folder not in store.folders(prefix.removesuffix(folder)):
        return Check(name="list after write", passed=False, detail="folders are not listed")
    return Check(name="list after write", passed=True, detail="complete")


def _check_overwrite(store: Store, key: str) -> Check:
    for data in (b"one", b"two"):
        store.put(key, data)
    read = store.get(key) == b"two"
    return Check(name="read after overwrite", passed=read, detail="fresh" if read else "stale")


def _check_range(store: Store, key: str) -> Check:
    create_surely(store, key, b"0123456789")
    found = b"".join(store.chunks(key, 3, 7))
    return Check(name="ranged read", passed=found == b"3456", detail="exact" if found == b"3456" else f"got {found!r}")


def _check_delete(store: Store, key: str) -> Check:
    """A role that may not delete can still do all but collect garbage."""
    create_surely(store, key, b"x")
    try:
        store.delete(key)
        store.delete(key)
    except LorimerError as error:
        return Check(name="delete", passed=None, detail=f"not allowed: {error.message}")
    with suppress(NotFound):
        store.get(key)
        return Check(name="delete", passed=False, detail="a deleted key can still be read")
    return Check(name="delete", passed=True, detail="gone at once")


def _facts(store: Store, key: str, clock: Callable[[], float]) -> Sequence[Check]:
    if not isinstance(store, Inspectable):
        return []
    refuses = store.refuses_wrong_sha256(key)
    return [
        Check(
            name="wrong sha256",
            passed=None,
            detail="refused by the server" if refuses else "accepted: uploads are read back and hashed",
        ),
        Check(name="versioning", passed=None, detail=store.versioning()),
        Check(name="clock", passed=None, detail=_skew(store.server_time(), clock())),
    ]


def _skew(theirs: float | None, ours: float) -> str:
    """Correctness needs no clock, but who is told of a change at once is whoever's clock agrees."""
    if theirs is None:
        return "unknown"
    late = theirs - ours
    if abs(late) <= 2:
        return "agrees with this machine's"
    warning = "; gateways may notice changes late" if abs(late) > SKEW_S / 2 else ""
    return f"{abs(late):.0f} s {'ahead of' if late > 0 else 'behind'} this machine's{warning}"

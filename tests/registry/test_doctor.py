"""The doctor passes stores that are sound and refuses those that are not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from registry.directory import DirectoryStore
from registry.doctor import probe
from registry.errors import Refused
from registry.store import Store
from tests.registry.conftest import REAL_STORES
from tests.registry.stores import Flaky, Forgetful, Racy, Unconditional, Wrapper


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
def test_sound_stores_pass_and_stay_clean(store: Store) -> None:
    rounds: list[tuple[int, int]] = []
    verdict = probe(store, progress=lambda done, total: rounds.append((done, total)))
    assert verdict.passed, verdict.failures
    assert rounds[-1] == (20, 20)
    names = {check.name for check in verdict.checks}
    assert {"create absent", "create present", "body unchanged", "races", "list after write"} <= names
    assert list(store.list("")) == []


@pytest.mark.s3
@pytest.mark.parametrize("open_again", REAL_STORES[1:], indirect=True)
def test_facts_of_a_server(store: Store) -> None:
    facts = {check.name: check.detail for check in probe(store, rounds=1).checks if check.passed is None}
    assert set(facts) == {"wrong sha256", "versioning", "clock"}
    assert facts["clock"] == "agrees with this machine's"
    assert facts["versioning"] == "Off"


@pytest.mark.parametrize(
    ("broken", "failing"),
    [(Racy, "races"), (Unconditional, "create present"), (Unconditional, "body unchanged"), (Forgetful, "list")],
)
def test_unsound_stores_are_refused(directory_store: DirectoryStore, broken: type[Wrapper], failing: str) -> None:
    store = broken(directory_store)
    verdict = probe(store)
    assert not verdict.passed
    assert any(failure.startswith(failing) for failure in verdict.failures)
    assert verdict.holds_one_writer == (failing == "races")
    assert ("single writer" in verdict.in_words) == (failing == "races")


def test_lost_replies_do_not_condemn_a_store(directory_store: DirectoryStore) -> None:
    assert probe(Flaky(directory_store, ["fine", "fine", "unheard", "lost", "unheard"]), rounds=3).passed


@pytest.mark.parametrize("open_again", ["moto"], indirect=True)
@pytest.mark.parametrize(
    ("by_s", "words"), [(0.0, "agrees"), (20.0, r"(19|20|21) s behind"), (-50.0, "ahead of this machine's; gate")]
)
def test_clocks_that_differ(store: Store, by_s: float, words: str) -> None:
    def clock() -> float:
        return time.time() + by_s

    verdict = probe(store, rounds=1, racers=1, clock=clock)
    found = next(check.detail for check in verdict.checks if check.name == "clock")
    assert re.search(words, found)


def test_a_role_that_may_not_delete_can_still_write(directory_store: DirectoryStore) -> None:
    verdict = probe(Undeletable(directory_store), rounds=1)
    assert verdict.passed
    assert next(check for check in verdict.checks if check.name == "delete").detail == "not allowed: access denied"


def test_a_store_that_ignores_ranges_is_refused(directory_store: DirectoryStore) -> None:
    verdict = probe(Rangeless(directory_store), rounds=1)
    assert verdict.failures == ["ranged read: got b'0123456789'"]


class Undeletable(Wrapper):
    def delete(self, key: str) -> None:
        raise Refused("access denied")


class Rangeless(Wrapper):
    def chunks(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self.inner.chunks(key)

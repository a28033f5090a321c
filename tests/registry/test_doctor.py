"""The doctor passes stores that are sound and refuses those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.directory import DirectoryStore
from registry.doctor import MARKER, initialise, probe, read_marker
from registry.errors import Corrupt, NotFound, Refused
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
    assert set(facts) == {"wrong sha256", "versioning"}
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
    with pytest.raises(Refused, match="cannot hold a writable registry"):
        initialise(store)
    assert not directory_store.exists(MARKER)
    marker = initialise(store, read_only=True)
    assert (marker.read_only, marker.verdict.passed) == (True, False)


def test_lost_replies_do_not_condemn_a_store(directory_store: DirectoryStore) -> None:
    assert probe(Flaky(directory_store, ["fine", "fine", "unheard", "lost", "unheard"]), rounds=3).passed


def test_marker(directory_store: DirectoryStore) -> None:
    with pytest.raises(NotFound, match="registry init"):
        read_marker(directory_store)
    marker = initialise(directory_store, clock=lambda: 5.0)
    assert read_marker(directory_store) == marker == initialise(directory_store)
    assert (marker.created_at, marker.read_only, marker.verdict.passed) == (5.0, False, True)
    directory_store.put(MARKER, directory_store.get(MARKER).replace(b'"format":1', b'"format":9'))
    with pytest.raises(Refused, match="format 9"):
        read_marker(directory_store)
    directory_store.put(MARKER, b"?")
    with pytest.raises(Corrupt, match=MARKER):
        read_marker(directory_store)


def test_a_full_or_unreachable_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="is not a directory"):
        initialise(DirectoryStore(tmp_path / "file"))

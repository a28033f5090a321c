"""One flipped bit in any stored object: found when it is read and named, or of no consequence. Never another answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.adapters import Registry
from registry.checkpoints import CHECKPOINT_EVERY
from registry.errors import Corrupt, NotFound
from registry.versions import AdapterState
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import MemoryStore

ADAPTER = "t/default/a/x"
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Objects(dict[str, bytes]):
    """Too many to print."""

    def __repr__(self) -> str:
        return f"{len(self)} objects"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Three versions and so many moves that there is a checkpoint, with events before and after it."""
    folder = tmp_path_factory.mktemp("folders")
    store = MemoryStore()
    registry = Registry(store, clock=lambda: 1.6e9)
    registry.register_base(PROFILE)
    for seed in range(3):
        registry.publish("x", write_folder(folder / str(seed), seed=seed))
    for turn in range(CHECKPOINT_EVERY):
        registry.alias("x", "prod", f"v{1 + turn % 3}", reason=f"turn {turn}")
    registry.quarantine("x", "v2", "why")
    registry.catalog.compact()
    assert any("/ckpt/" in key for key in store.data)
    return Objects(store.data)


def flipped(whole: Objects, key: str, where: int, bit: int) -> MemoryStore:
    data = bytearray(whole[key])
    data[where % len(data)] ^= 1 << bit
    return truth(Objects(whole | {key: bytes(data)}))


def truth(whole: Objects) -> MemoryStore:
    store = MemoryStore()
    store.data.update(whole)
    return store


def state(store: MemoryStore) -> AdapterState:
    return Registry(store).state("x")


def keys(whole: Objects, kind: str) -> list[str]:
    return sorted(key for key in whole if key.startswith(f"{ADAPTER}/{kind}"))


WHERE = {"which": st.integers(0, 10**6), "where": st.integers(0, 10**6), "bit": st.integers(0, 7)}


def fault(read: Callable[[], object]) -> str | None:
    """What reading finds wrong."""
    try:
        read()
    except Corrupt as error:
        return error.message
    return None


@given(**WHERE)
@MANY
def test_in_an_event(whole: Objects, which: int, where: int, bit: int) -> None:
    slots = keys(whole, "log/")
    key = slots[which % len(slots)]
    store = flipped(whole, key, where, bit)
    found = fault(lambda: Registry(store).verify("x"))
    assert key in found if found else key == slots[-1]  # nothing follows the last one and vouches for all its bytes
    found = fault(lambda: state(store))
    assert key in found if found else state(store) == state(truth(whole))


@given(**WHERE)
@FEW
def test_in_a_blob(whole: Objects, tmp_path: Path, which: int, where: int, bit: int) -> None:
    blobs = keys(whole, "blobs/")
    key = blobs[which % len(blobs)]
    store = flipped(whole, key, where, bit)
    with pytest.raises(Corrupt) as caught:
        Registry(store).verify("x")
    assert key in caught.value.message
    hit = [version for version in state(store).versions if key in map(version.blob_key, version.locations)]
    for version in state(store).versions:
        folder = tmp_path / secrets.token_hex(8)
        if version in hit:
            with pytest.raises(Corrupt, match=f"x@v{version.number}"):
                Registry(store).pull(f"x@{version.digest}", folder)
            assert not folder.exists()
        else:
            Registry(store).pull(f"x@{version.digest}", folder)


@pytest.mark.parametrize("kind", ["ckpt/", "HEAD"])
@given(**WHERE)
@MANY
def test_in_what_is_derived(whole: Objects, kind: str, which: int, where: int, bit: int) -> None:
    derived = keys(whole, kind)
    store = flipped(whole, derived[which % len(derived)], where, bit)
    assert state(store) == state(truth(whole))
    Registry(store).verify("x")


@given(**WHERE)
@MANY
def test_in_the_index(whole: Objects, which: int, where: int, bit: int) -> None:
    parts = sorted(key for key in whole if key.startswith("t/default/catalog/"))
    key = parts[which % len(parts)]
    store = flipped(whole, key, where, bit)
    found = fault(lambda: Registry(store).list())
    if found is None:
        assert Registry(store).list() == Registry(truth(whole)).list()
    else:
        assert key in found
        for part in parts:  # it is derived: without it the logs are read
            store.delete(part)
        assert Registry(store).list() == Registry(truth(whole)).list()


@given(which=st.integers(0, 10**6))
@MANY
def test_a_lost_object_is_missed(whole: Objects, which: int) -> None:
    lost = keys(whole, "")[which % len(keys(whole, ""))]
    store = truth(whole)
    del store.data[lost]
    if lost.startswith((f"{ADAPTER}/ckpt/", f"{ADAPTER}/HEAD")) or lost == keys(whole, "log/")[-1]:
        Registry(store).verify("x")
        return
    with pytest.raises((Corrupt, NotFound)) as caught:
        Registry(store).verify("x")
    assert lost in caught.value.message or lost == keys(whole, "log/")[0]

"""The façade: resolve, compare-and-swap, rollback, delete, verify, pull, shared by many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.adapters import Registry, Version, open_registry
from registry.directory import DirectoryStore
from registry.errors import Conflict, Corrupt, Invalid, NotFound, Refused
from registry.log import Event
from registry.manifest import BaseProfile, Manifest, Parent
from registry.names import Alias, Digest, ModelRef
from registry.ops import MoveAlias
from registry.settings import Settings
from registry.versions import AdapterState, fold
from tests.registry.folders import PROFILE, write_folder


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> Registry:
    """Adapter x with versions 1, 2, 3; prod = 1."""
    for seed in (1, 2, 3):
        registry.publish("x", write_folder(tmp_path / f"v{seed}", seed=seed))
    registry.alias("x", "prod", "v1")
    return registry


def test_resolve_every_way(three: Registry) -> None:
    second = three.resolve("x@v2")
    assert three.resolve("x").number == 1
    assert three.resolve(f"x@{second.digest}") == second
    assert three.resolve(f"x@{second.digest[:15]}") == second
    assert three.resolve("default/x@v2") == second
    assert three.resolve(ModelRef(None, "x", Digest(second.digest.removeprefix("sha256:")))) == second
    assert three.resolve(ModelRef(None, "x", Alias("prod"))).number == 1


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("y", "no adapter 'y'"),
        ("x@v4", "no version v4"),
        ("x@canary", "no alias 'canary'"),
        ("x@sha256:000000", "no version sha256:000000"),
        ("other/x", "in tenant 'other'"),
    ],
)
def test_unknown_references(three: Registry, ref: str, words: str) -> None:
    with pytest.raises(NotFound) as caught:
        three.resolve(ref)
    assert words in str(caught.value)


def test_unknown_names_fill_no_memory(three: Registry) -> None:
    for number in range(10):
        with pytest.raises(NotFound):
            three.resolve(f"unknown-{number}")
    assert list(three._logs) == ["x"]


def test_resolve_is_fresh_and_one_get(three: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    three.resolve("x")
    gets: list[str] = []
    get = three.store.get
    monkeypatch.setattr(three.store, "get", lambda key: gets.append(key) or get(key))
    three.resolve("x")
    assert len(gets) == 1
    Registry(DirectoryStore(Path(three.store.url.removeprefix("file://")))).alias("x", "prod", "v3")
    assert three.resolve("x").number == 3


def test_alias_compare_and_swap(three: Registry) -> None:
    one, two = three.resolve("x@v1").digest, three.resolve("x@v2").digest
    event = three.alias("x", "prod", "v2", expect=one, reason="better")
    assert event.aliases == {"prod": {two: 1.0}}
    with pytest.raises(Conflict) as caught:
        three.alias("x", "prod", "v3", expect=one)
    assert caught.value.actual == two
    with pytest.raises(Conflict):
        three.alias("x", "prod", "v3", expect=None)
    three.alias("x", "canary", "v3", expect=None)
    three.alias("x", "prod", "canary", expect="v2")
    assert three.resolve("x").number == 3
    three.alias("x", "canary", None)
    assert three.state("x").aliases == {"prod": three.resolve("x@v3").digest}
    last = three.state("x").alias_history[-2]
    assert (last.previous, last.actor) == (two, "test")


def test_alias_of_nothing(three: Registry) -> None:
    with pytest.raises(NotFound):
        three.alias("y", "prod", "v1")
    with pytest.raises(NotFound):
        three.alias("x", "prod", "v9")
    with pytest.raises(Invalid):
        three.alias("x", "v7", "v1")
    with pytest.raises(NotFound, match="no adapter"):
        three.state("y")


def test_racing_swaps_have_one_winner(three: Registry) -> None:
    one = three.resolve("x@v1").digest

    def swap(number: int) -> bool:
        try:
            Registry(three.store).alias("x", "prod", f"v{2 + number % 2}", expect=one)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(swap, range(8))).count(True) == 1


def test_rollback_goes_back_step_by_step(three: Registry) -> None:
    three.alias("x", "prod", "v2")
    three.alias("x", "prod", "v3")
    assert [three.rollback("x").number, three.rollback("x", reason="worse").number] == [2, 1]
    with pytest.raises(NotFound, match="no earlier version"):
        three.rollback("x")
    three.alias("x", "prod", "v3")
    assert three.rollback("x").number == 1
    assert three.log("x")[-1].ops[0] == MoveAlias(
        name="prod",
        to={three.resolve("x@v1").digest: 1.0},
        expect=three.resolve("x@v3").digest,
        rollback=True,
    )


def test_rollback_passes_over_deleted_versions(three: Registry) -> None:
    three.alias("x", "prod", "v2")
    three.alias("x", "prod", "v3")
    three.delete("x", "v2")
    assert three.rollback("x").number == 1


@given(moves=st.lists(st.sampled_from(["a", "b", "c", "back"]), max_size=25))
@settings(max_examples=200, deadline=None)
def test_rollback_is_undo(moves: list[str]) -> None:
    """Against the obvious model: a stack of targets, pushed by moves to something else and popped by rollbacks."""
    state = AdapterState(tenant="t", adapter="x")
    digests = {name: f"sha256:{name * 64}" for name in "abc"}
    state = msgspec.structs.replace(state, versions=tuple(map(bare_version, digests.values())))
    stack: list[str] = []
    for n, move in enumerate(moves, 1):
        if move == "back":
            if len(stack) < 2:
                with pytest.raises(NotFound):
                    state.rollback_targets("prod")
                continue
            (target,) = state.rollback_targets("prod")
            stack.pop()
            assert target == stack[-1]
        else:
            target = digests[move]
            if not stack or stack[-1] != target:
                stack.append(target)
        op = MoveAlias(name="prod", to={target: 1.0}, rollback=move == "back")
        state = fold(state, Event(n=n, prev="", tx="", actor="", time=0.0, ops=(op,)))
        assert state.aliases["prod"] == stack[-1]


def bare_version(digest: str) -> Version:
    manifest = Manifest(files=(), method="lora", rank=1, alpha=1.0, targets=(), base=PROFILE.identity)
    return Version(tenant="t", adapter="x", number=1, digest=digest, manifest=manifest, locations={}, published_at=0.0)


def test_delete(three: Registry, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="x@v1 is aliased prod"):
        three.delete("x", "v1")
    second = three.resolve("x@v2")
    child = three.publish(
        "x", write_folder(tmp_path / "child", seed=9), parent=Parent(adapter="x", digest=second.digest)
    )
    with pytest.raises(Refused, match="x@v2 is the parent of x@v4"):
        three.delete("x", "v2")
    three.delete("x", child.digest)
    three.delete("x", "v2", reason="old")
    with pytest.raises(NotFound, match="deleted"):
        three.resolve("x@v2")
    assert three.publish("x", tmp_path / "v2").number == 5
    assert three.verify("x").num_versions == 3


def test_list_show_and_log(three: Registry, tmp_path: Path) -> None:
    three.publish("another", write_folder(tmp_path / "a"))
    first, second = three.list()
    assert (first.adapter, first.latest, first.aliases) == ("another", 1, {})
    assert (second.adapter, second.num_versions, second.aliases, second.base) == ("x", 3, {"prod": 1}, "tiny")
    assert three.show("another").number == 1
    assert three.show("x").number == 1
    with pytest.raises(NotFound):
        three.show("another@prod")
    assert [event.n for event in three.log("x")] == [1, 2, 3, 4]
    with pytest.raises(NotFound):
        three.log("nobody")


def test_verify_names_the_damaged_object(three: Registry) -> None:
    version = three.resolve("x@v2")
    report = three.verify("x")
    assert (report.num_events, report.num_versions, report.num_blobs) == (4, 3, 4), "the configs are one blob"
    key = version.blob_key(version.manifest.files[1].sha256)
    whole = three.store.get(key)
    three.store.put(key, whole[:-1] + b"?")
    with pytest.raises(Corrupt) as caught:
        three.verify("x")
    assert key in str(caught.value)
    three.store.delete(key)
    with pytest.raises(Corrupt, match="is missing"):
        three.verify("x")
    three.store.put(key, whole)
    three.verify("x")


def test_pull_is_whole_or_nothing(three: Registry, tmp_path: Path) -> None:
    version = three.pull("x@v3", tmp_path / "out" / "x")
    assert sorted(path.name for path in (tmp_path / "out" / "x").iterdir()) == [
        entry.path for entry in version.manifest.files
    ]
    with pytest.raises(Conflict, match="not an empty folder"):
        three.pull("x@v1", tmp_path / "out" / "x")
    three.store.put(version.blob_key(version.manifest.files[0].sha256), b"?")
    with pytest.raises(Corrupt, match="damaged"):
        three.pull("x@v3", tmp_path / "out" / "y")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_tenants_do_not_see_each_other(three: Registry) -> None:
    other = Registry(three.store, tenant="other")
    assert list(other.list()) == []
    with pytest.raises(NotFound):
        other.resolve("x")


def test_long_histories_stay_quick(three: Registry) -> None:
    """500 moves; then a cold reader needs the newest checkpoint and a short tail only."""
    for number in range(500):
        three.alias("x", "prod", f"v{1 + number % 3}")
    cold = Registry(three.store)
    assert cold.resolve("x").number == 1 + 499 % 3
    assert cold.verify("x").num_events == 504
    assert len(cold.log("x")) == 504


def test_one_registry_in_many_threads(three: Registry) -> None:
    """Whatever a resolve returns was the alias's target at some moment between its start and its end."""
    done: list[bool] = []

    def move() -> None:
        for number in range(60):
            three.alias("x", "prod", f"v{1 + number % 3}")
        done.append(True)

    def read() -> int:
        count = 0
        while not done:
            before = len(three.log("x"))
            number = three.resolve("x").number
            events = three.log("x")
            window = [three.show(f"x@{next(iter(e.aliases['prod']))}").number for e in events[before - 1 :]]  # type: ignore[index]
            assert number in window
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        pool.submit(move).result()
        assert all(reader.result() > 0 for reader in readers)


def test_bases(registry: Registry) -> None:
    assert registry.bases() == [PROFILE]
    more: BaseProfile = msgspec.structs.replace(PROFILE, names=("tiny", "/models/tiny"))
    assert registry.register_base(more).names == ("tiny", "somebody/tiny", "/models/tiny")
    old = msgspec.structs.replace(more, names=PROFILE.names, embeddings={}, heads={}, biased=())
    registry.register_base(old)
    renewed = registry.register_base(PROFILE)
    assert (renewed.heads, renewed.biased) == (PROFILE.heads, PROFILE.biased)
    assert registry.base_profile("a" * 64).names == ("tiny", "somebody/tiny", "/models/tiny")
    with pytest.raises(NotFound):
        registry.base_profile("f" * 64)
    other = msgspec.structs.replace(PROFILE.identity, template_sha256="0" * 64)
    with pytest.raises(Conflict, match="another template_sha256"):
        registry.register_base(msgspec.structs.replace(PROFILE, identity=other))


def test_open_registry(tmp_path: Path) -> None:
    chosen = Settings(store=f"file://{tmp_path}/store", tenant="team")
    with pytest.raises(NotFound, match="lorimer registry init"):
        open_registry(chosen)
    store = DirectoryStore(tmp_path / "store")
    marker = Registry(store).init(read_only=True)
    assert marker.read_only
    with pytest.raises(Refused, match="read-only"):
        open_registry(chosen).register_base(PROFILE)
    assert not Registry(store).init().read_only
    assert Registry(store).init() == Registry(store).init(read_only=True)
    opened = open_registry(chosen)
    opened.register_base(PROFILE)
    assert opened.tenant == "team"
    assert "@" in opened.actor

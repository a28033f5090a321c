"""Tenants see nothing of each other, in any verb and any call, but what an owner shares; and that they only read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lorimer import cli
from registry.adapters import Registry
from registry.captures import read_captures
from registry.changes import quarantine
from registry.datasets import Datasets
from registry.directory import DirectoryStore
from registry.errors import Invalid, LorimerError, NotFound, Refused
from registry.jobs import Jobs
from registry.lineage import trace
from registry.names import parse_ref
from registry.neighbours import share, view
from tests.registry.conftest import REAL_STORES, FakeClock, OpenAgain
from tests.registry.folders import PROFILE, write_folder
from tests.registry.wild import contents

THEIRS = ("support", "alpha/support", "alpha/support@prod", "alpha/support@v1", "support@v1")


@pytest.fixture
def alpha(directory_store: DirectoryStore, clock: FakeClock, tmp_path: Path) -> Registry:
    """The owner: support with versions 1, 2, 3; prod = 2, canary = 3."""
    owner = Registry(directory_store, "alpha", clock, "owner")
    owner.register_base(PROFILE)
    fill(owner, tmp_path)
    return owner


def fill(owner: Registry, folder: Path) -> None:
    for seed in (1, 2, 3):
        owner.publish("support", write_folder(folder / f"v{seed}", seed=seed))
    owner.alias("support", "prod", "v2")
    owner.alias("support", "canary", "v3")
    owner.set_policy("support", {"capture": True})


@pytest.fixture
def beta(alpha: Registry) -> Registry:
    return neighbour(alpha, "beta")


def neighbour(owner: Registry, tenant: str) -> Registry:
    return Registry(owner.store, tenant, owner.clock, tenant)


CALLS: dict[str, Callable[[Registry, str, Path], object]] = {
    "abort": lambda r, name, _: r.abort(name, "0" * 16),
    "adapter_log": lambda r, name, _: r.adapter_log(name).fold(),
    "alias": lambda r, name, _: r.alias(name, "prod", "v1"),
    "commit": lambda r, name, _: r.commit(name, quarantine("v1", reason="")),
    "delete": lambda r, name, _: r.delete(name, "v1"),
    "log": lambda r, name, _: r.log(name),
    "obtainable": lambda r, name, _: r.obtainable(name),
    "policy": lambda r, name, _: r.policy(name),
    "publish": lambda r, name, folder: r.publish(name, write_folder(folder / "mine", seed=9)),
    "publish_as": lambda r, name, folder: r.publish_as(
        name, write_folder(folder / "mine", seed=9), r.publish("own", folder / "mine").manifest
    ),
    "pull": lambda r, name, folder: r.pull(name, folder / "pulled"),
    "quarantine": lambda r, name, _: r.quarantine(name, "v1", "why"),
    "reach": lambda r, name, _: r.reach(parse_ref(name)),
    "resolve": lambda r, name, _: r.resolve(name),
    "rollback": lambda r, name, _: r.rollback(name),
    "set_policy": lambda r, name, _: r.set_policy(name, {"capture": False}),
    "show": lambda r, name, _: r.show(name),
    "state": lambda r, name, _: r.state(name),
    "verify": lambda r, name, _: r.verify(name),
    "walk": lambda r, name, _: list(r.walk(name)),
}
NAMELESS = {"init", "register_base", "base_profile", "bases", "list", "of_tenant", "acting_as"}
CREATE = {"abort", "publish", "publish_as", "set_policy", "adapter_log"}
"""For these the bare name is a new adapter of one's own."""


def test_every_call_is_tried() -> None:
    public = {name for name, _ in inspect.getmembers(Registry, inspect.isfunction) if not name.startswith("_")}
    assert public == set(CALLS) | NAMELESS


@pytest.mark.parametrize("call", CALLS)
def test_no_call_reaches_another_tenant(alpha: Registry, beta: Registry, tmp_path: Path, call: str) -> None:
    before = contents(tmp_path / "store" / "t" / "alpha")
    for name in THEIRS:
        if call in CREATE and name == "support":
            CALLS[call](beta, name, tmp_path)
            continue
        with pytest.raises((NotFound, Invalid)) as caught:
            CALLS[call](beta, name, tmp_path)
        assert "v2" not in str(caught.value)
        assert "canary" not in str(caught.value)
    assert contents(tmp_path / "store" / "t" / "alpha") == before
    assert not beta.list() or {each.adapter for each in beta.list()} <= {"support", "own"}
    assert alpha.resolve("support").number == 2


VERBS: dict[str, tuple[str, ...]] = {
    "push": ("push", "mine", "REF"),
    "pull": ("pull", "REF", "out"),
    "export": ("export", "REF", "out"),
    "import": ("import", "mine", "REF"),
    "copy": ("copy", "REF", "--to", "file://STORE"),
    "share": ("share", "REF", "beta"),
    "show": ("show", "REF"),
    "log": ("log", "REF"),
    "alias": ("alias", "REF", "prod", "v1"),
    "rollback": ("rollback", "REF"),
    "quarantine": ("quarantine", "REF", "v1"),
    "delete": ("delete", "REF", "v1"),
    "retain": ("retain", "REF"),
    "gc": ("gc", "REF"),
    "verify": ("verify", "REF"),
    "policy": ("policy", "REF", "capture=false"),
    "rules": ("rules", "REF"),
    "review": ("review", "REF", "v1", "--approve"),
}
PLACELESS = {"init", "doctor", "list", "index", "key", "upgrade"}


def run(place: Path, *arguments: str, tenant: str = "beta") -> Result:
    environ = {"LORIMER_STORE": f"file://{place}/store", "LORIMER_CACHE_DIR": f"{place}/cache"}
    return CliRunner().invoke(cli, ["registry", *arguments, "--tenant", tenant], env=environ)


def test_every_verb_is_tried() -> None:
    group: Any = cli.get_command(None, "registry")  # type: ignore[arg-type]
    assert set(group.commands) == set(VERBS) | PLACELESS


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_reaches_another_tenant(
    alpha: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    alpha.init()
    write_folder(tmp_path / "mine", seed=9)
    before = contents(tmp_path / "store" / "t" / "alpha")
    for name in THEIRS:
        words = [word.replace("REF", name).replace("STORE", f"{tmp_path}/store") for word in VERBS[verb]]
        result = run(tmp_path, *words)
        is_own = verb in ("push", "policy", "gc") and name == "support"
        assert result.exit_code in ((0,) if is_own else (2, 3, 5)), (words, result.output)
        assert "canary" not in result.output
        assert "Traceback" not in result.output
    assert contents(tmp_path / "store" / "t" / "alpha") == before
    assert not (tmp_path / "out").exists()


def test_other_nouns_are_apart_too(alpha: Registry, beta: Registry, tmp_path: Path) -> None:
    Jobs(alpha.store, "alpha").submit("j1", {"kind": "drift-retrain"})
    (tmp_path / "rows.jsonl").write_text("{}\n")
    sha256 = Datasets(alpha.store, "alpha").put(tmp_path / "rows.jsonl")
    assert Jobs(beta.store, "beta").list() == []
    with pytest.raises(NotFound):
        Jobs(beta.store, "beta").get("j1")
    with pytest.raises(NotFound):
        Datasets(beta.store, "beta").fetch(sha256, tmp_path / "out.jsonl")
    assert read_captures(beta.store, "beta", "support") == []


def test_tenants_use_the_same_names_for_different_things(alpha: Registry, beta: Registry, tmp_path: Path) -> None:
    mine = beta.publish("support", write_folder(tmp_path / "mine", seed=9), aliases={"prod": None})
    assert beta.resolve("support") == beta.resolve("beta/support") == mine
    assert alpha.resolve("support").digest != mine.digest
    alpha.commit("support", share("beta", "prod"))
    assert beta.resolve("support") == mine
    assert beta.resolve("alpha/support") == alpha.resolve("support")


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
def test_an_alias_is_shared_as_it_moves(open_again: OpenAgain, tmp_path: Path) -> None:
    alpha, beta = Registry(open_again(), "alpha"), Registry(open_again(), "beta")
    alpha.register_base(PROFILE)
    fill(alpha, tmp_path)
    alpha.commit("support", share("beta", "prod"))
    assert beta.resolve("alpha/support").number == 2
    assert beta.resolve("alpha/support@v2").number == 2
    assert beta.resolve(f"alpha/support@{alpha.resolve('support').digest}").number == 2
    for ref in ("alpha/support@v3", "alpha/support@canary", "alpha/support@v1"):
        with pytest.raises(NotFound) as caught:
            beta.resolve(ref)
        assert "there is prod, v2" in str(caught.value)
    alpha.alias("support", "prod", "v3")
    assert beta.resolve("alpha/support").number == 3
    with pytest.raises(NotFound):
        beta.resolve("alpha/support@v2")
    beta.pull("alpha/support", tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == contents(tmp_path / "v3")
    alpha.commit("support", share("beta", "prod", revoke=True))
    with pytest.raises(NotFound, match="is shared with 'beta'"):
        beta.resolve("alpha/support")


def test_a_version_is_shared_for_good(alpha: Registry, beta: Registry) -> None:
    alpha.commit("support", share("beta", alpha.show("support@v1").digest))
    alpha.commit("support", share("beta", "v3"))
    assert alpha.state("support").grants == {"beta": ("v1", "v3")}
    assert [each.number for each in beta.reach(parse_ref("alpha/support")).versions] == [1, 3]
    assert beta.show("alpha/support").number == 3
    with pytest.raises(NotFound):
        beta.resolve("alpha/support")
    alpha.alias("support", "canary", None)
    alpha.delete("support", "v3")
    assert [each.number for each in beta.reach(parse_ref("alpha/support")).versions] == [1]


def test_everything_is_shared_but_how_it_is_decided(alpha: Registry, beta: Registry) -> None:
    alpha.commit("support", share("beta", "*"))
    shared, owned = beta.reach(parse_ref("alpha/support")), alpha.state("support")
    assert (shared.versions, shared.aliases, shared.alias_history) == (
        owned.versions,
        owned.aliases,
        owned.alias_history,
    )
    assert owned.policy
    assert owned.grants
    assert not any((shared.policy, shared.grants, shared.reviews, shared.violations))


def test_weights_are_shared_with_their_alias(alpha: Registry) -> None:
    alpha.alias("support", "prod", {"v1": 5, "v2": 95})
    shared = view(alpha.state("support"), ["prod"])
    assert [each.number for each in shared.versions] == [1, 2]
    assert shared.standing("prod") == alpha.state("support").standing("prod")


def test_what_is_shared_is_read_only(alpha: Registry, beta: Registry, tmp_path: Path) -> None:
    alpha.commit("support", share("beta", "*"))
    before = contents(tmp_path / "store" / "t" / "alpha")
    for call in ("alias", "rollback", "delete", "quarantine", "set_policy", "publish", "abort", "commit"):
        for name in THEIRS[1:]:
            with pytest.raises(LorimerError):
                CALLS[call](beta, name, tmp_path)
    with pytest.raises(NotFound, match="its owner alone"):
        trace(beta, "alpha/support@v1")
    assert contents(tmp_path / "store" / "t" / "alpha") == before


def test_a_grant_is_for_one_tenant(alpha: Registry) -> None:
    alpha.commit("support", share("beta", "*"))
    with pytest.raises(NotFound):
        neighbour(alpha, "gamma").resolve("alpha/support")
    with pytest.raises(NotFound):
        neighbour(alpha, "bet").resolve("alpha/support")


def test_a_quarantined_version_stays_so_for_others(alpha: Registry, beta: Registry) -> None:
    alpha.commit("support", share("beta", "prod"))
    alpha.quarantine("support", "v2", "says nonsense")
    with pytest.raises(Refused, match="says nonsense"):
        beta.resolve("alpha/support")


def test_grants_that_make_no_sense(alpha: Registry) -> None:
    for tenant, selector, error in (
        ("alpha", "prod", Invalid),
        ("Bad Name", "prod", Invalid),
        ("beta", "v9", NotFound),
        ("beta", "absent", NotFound),
        ("beta", "Bad Alias", Invalid),
    ):
        with pytest.raises(error):
            alpha.commit("support", share(tenant, selector))
    with pytest.raises(NotFound, match="is not shared with beta"):
        alpha.commit("support", share("beta", "prod", revoke=True))
    assert alpha.commit("support", share("beta", "prod")) is not None
    assert alpha.commit("support", share("beta", "prod")) is None


def test_the_past_is_seen_through_the_grants_of_today(alpha: Registry, beta: Registry, clock: FakeClock) -> None:
    then = clock.now
    clock.now += 100
    alpha.alias("support", "prod", "v3")
    alpha.commit("support", share("beta", "prod"))
    assert beta.resolve("alpha/support").number == 3
    assert beta.resolve("alpha/support", at=then).number == 2
    with pytest.raises(NotFound):
        beta.resolve("alpha/support@canary", at=then)


def test_the_verb_shares_and_takes_back(alpha: Registry, tmp_path: Path) -> None:
    alpha.init()
    assert "shared with nobody" in run(tmp_path, "share", "support", tenant="alpha").stdout
    result = run(tmp_path, "share", "support", "beta", tenant="alpha")
    assert (result.exit_code, "prod" in result.stdout) == (0, True), result.output
    owned = [run(tmp_path, "show", f"support@v{number}", tenant="alpha").stdout for number in (1, 2)]
    assert ["shared with" in each for each in owned] == [False, True]
    shown = run(tmp_path, "show", "alpha/support")
    assert (shown.exit_code, "support@v2" in shown.stdout, "capture" in shown.stdout) == (0, True, False)
    assert "shared with" not in shown.stdout
    assert run(tmp_path, "pull", "alpha/support", str(tmp_path / "out")).exit_code == 0
    copied = run(tmp_path, "copy", "alpha/support", "--to", f"file://{tmp_path}/store", "--alias", "prod")
    assert (copied.exit_code, "support@v1" in copied.stdout) == (0, True)
    assert alpha.resolve("support").digest in run(tmp_path, "show", "support").stdout
    assert "grant prod to beta" in run(tmp_path, "log", "support", tenant="alpha").stdout
    assert run(tmp_path, "share", "support", "beta", "--revoke", tenant="alpha").exit_code == 0
    assert run(tmp_path, "show", "alpha/support").exit_code == 3
    assert run(tmp_path, "share", "support", "--revoke", tenant="alpha").exit_code == 2

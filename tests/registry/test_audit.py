"""The audit log: what is on record, in which order, through how many gateways; and that altering it is noticed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorimer import cli
from registry.adapters import Registry
from registry.audit import AuditLog
from registry.directory import DirectoryStore
from registry.errors import Corrupt, Invalid


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_newest_first_with_what_and_who(store: DirectoryStore) -> None:
    log = AuditLog(store, "acme", "gateway-1", Clock())
    assert log.record("key:a", "alias.move", {"adapter": "x", "to": "v2"}, "req-1") == 1
    assert log.record("key:b", "key.revoke", {"key": "a"}) == 2
    second, first = AuditLog(store, "acme", "elsewhere").newest()
    assert (first.n, first.actor, first.action, first.what) == (1, "key:a", "alias.move", {"adapter": "x", "to": "v2"})
    assert (first.by, first.request_id, first.error) == ("gateway-1", "req-1", "")
    assert (second.n, second.actor, second.what) == (2, "key:b", {"key": "a"})
    assert AuditLog(store, "other", "elsewhere").newest() == []


def test_a_failure_is_told_with_its_action(store: DirectoryStore) -> None:
    log = AuditLog(store, "acme", "g", Clock())
    number = log.record("key:a", "alias.move", {"adapter": "x"})
    log.record("key:a", "alias.move", {"adapter": "y"})
    log.failed(number, "key:a", "conflict: prod moved meanwhile")
    assert [(each.what["adapter"], each.error) for each in log.newest()] == [
        ("y", ""),
        ("x", "conflict: prod moved meanwhile"),
    ]


def test_many_gateways_write_one_chain(store: DirectoryStore) -> None:
    logs = [AuditLog(store, "acme", f"g{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: logs[n % 4].record("key:a", "load", {"n": n}), range(40)))
    found = logs[0].newest(1000)
    assert sorted(each.what["n"] for each in found) == [*range(40)]
    assert [each.n for each in found] == [*range(40, 0, -1)]
    assert logs[3].verify().state == 40


def test_selecting_and_paging(store: DirectoryStore) -> None:
    clock = Clock()
    log = AuditLog(store, "acme", "g", clock)
    for n in range(150):
        log.record(f"key:{n % 3}", "alias.move" if n % 2 else "load", {"n": n})
    page = log.newest(20)
    assert [each.n for each in page] == [*range(150, 130, -1)]
    assert [each.n for each in log.newest(20, before=page[-1].n)] == [*range(130, 110, -1)]
    assert {each.action for each in log.newest(action="load")} == {"load"}
    assert len(log.newest(1000, actor="key:1")) == 50
    recent = log.newest(1000, since=page[4].time)
    assert [each.n for each in recent] == [*range(150, 145, -1)]
    for limit in (0, 1001):
        with pytest.raises(Invalid, match="limit"):
            log.newest(limit)


def test_altering_or_taking_out_is_noticed(store: DirectoryStore) -> None:
    log = AuditLog(store, "acme", "g")
    for n in range(3):
        log.record("key:a", "load", {"n": n})
    altered = store.root / "t/acme/audit/log/00000000000000000002.json"
    whole = altered.read_bytes()
    altered.chmod(0o644)
    altered.write_bytes(whole.replace(b'"n":1}', b'"n":7}'))
    with pytest.raises(Corrupt, match="damaged"):
        AuditLog(store, "acme", "g").verify()
    altered.unlink()
    with pytest.raises(Corrupt, match="missing"):
        AuditLog(store, "acme", "g").verify()


def test_the_verb_shows_and_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path / "store")
    Registry(store).init()
    log = AuditLog(store, "default", "g", Clock())
    log.record("key:a", "alias.move", {"adapter": "x", "to": "v2", "reason": ""}, "req-1")
    log.failed(log.record("key:b", "key.revoke", {"key": "c"}), "key:b", "not_found: no key c")
    monkeypatch.setenv("LORIMER_STORE", f"file://{tmp_path}/store")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["audit", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "key:a  alias.move  adapter=x to=v2  req-1    done" in run()
    assert "failed: not_found: no key c" in run("--actor", "key:b")
    assert run("--since", "2026-01-01").strip() == "nothing on record"
    assert [each["action"] for each in json.loads(run("--json"))] == ["key.revoke", "alias.move"]
    assert json.loads(run("--verify", "--json"))["actions"] == 2

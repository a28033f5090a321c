"""API keys: what the log holds of them, and when a secret opens something."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.directory import DirectoryStore
from registry.errors import Conflict, Corrupt, Invalid, NotFound, Refused
from registry.keys import BRAND, Grants, KeyLog, Limits, find
from registry.signing import new_key
from registry.trust import Trust
from tests.registry.conftest import FakeClock
from tests.registry.stores import MemoryStore

HOUR_S = 3600.0


def sha(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def grants(name: str = "shop", tenant: str = "acme", **fields: Any) -> Grants:
    return Grants(name=name, tenant=tenant, scopes=fields.pop("scopes", frozenset({"infer"})), **fields)


@pytest.fixture
def log(tmp_path: Path, clock: FakeClock) -> KeyLog:
    return KeyLog(DirectoryStore(tmp_path), clock, actor="ada")


def test_a_new_key_opens_by_its_secret_and_the_bucket_holds_only_the_hash(tmp_path: Path, log: KeyLog) -> None:
    wanted = grants(limits=Limits(requests_per_minute=60), adapters=("support-*",))
    key, secret = log.create(wanted)
    assert secret.startswith(f"{BRAND}-{key.id}-")
    assert key.grants == wanted
    assert key.created_by == "ada"
    assert key.refusal(sha(secret), key.created_at) is None
    assert key.refusal(sha("sk-other"), key.created_at) is not None
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert sha(secret).encode() in stored
    assert secret.rpartition("-")[2].encode() not in stored


def test_every_secret_is_another(log: KeyLog) -> None:
    made = [log.create(grants(f"k{number}"))[1] for number in range(50)]
    assert len(set(made)) == 50
    assert min(map(len, made)) > 50


def test_a_key_ends_when_it_expires(log: KeyLog, clock: FakeClock) -> None:
    key, secret = log.create(grants(expires_at=clock.now + HOUR_S))
    assert key.refusal(sha(secret), clock.now + HOUR_S - 1) is None
    assert key.refusal(sha(secret), clock.now + HOUR_S) == "has expired"
    clock.now += 2 * HOUR_S
    with pytest.raises(Conflict, match="expired"):
        log.rotate("acme", "shop", 0)


def test_rotation_keeps_the_old_secret_for_the_overlap_and_no_older_one(log: KeyLog, clock: FakeClock) -> None:
    _, first = log.create(grants())
    clock.now += 10
    key, second = log.rotate("acme", "shop", HOUR_S)
    assert [key.refusal(sha(each), clock.now) for each in (first, second)] == [None, None]
    assert key.refusal(sha(first), clock.now + HOUR_S) == "was replaced by a newer one"
    assert key.refusal(sha(second), clock.now + HOUR_S) is None
    key, third = log.rotate("acme", key.id, HOUR_S)
    refusals = [key.refusal(sha(each), clock.now) is None for each in (first, second, third)]
    assert refusals == [False, True, True], "two secrets at most"


def test_a_revoked_key_stays_revoked_and_its_name_is_free_again(log: KeyLog) -> None:
    _, secret = log.create(grants())
    with pytest.raises(Conflict, match="already"):
        log.create(grants())
    key = log.revoke("acme", "shop", "leaked")
    assert (key.refusal(sha(secret), key.created_at), key.revoked_why) == ("is revoked", "leaked")
    for act in (lambda: log.revoke("acme", key.id), lambda: log.rotate("acme", key.id, 0)):
        with pytest.raises(Conflict, match="revoked"):
            act()
    again, _ = log.create(grants())
    assert find(log.read(), "acme", "shop") == again, "the newest of a name is meant"


def test_tenants_do_not_see_each_others_keys(log: KeyLog) -> None:
    key, _ = log.create(grants(tenant="acme"))
    log.create(grants(tenant="globex"))
    for act in (log.revoke, lambda tenant, name: log.rotate(tenant, name, 0), lambda *who: find(log.read(), *who)):
        with pytest.raises(NotFound):
            act("globex", key.id)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": "../x"}, "key"),
        ({"tenant": "A"}, "tenant"),
        ({"limits": Limits(requests_per_minute=0)}, "requests_per_minute"),
        ({"limits": Limits(tokens_per_minute=-1)}, "tokens_per_minute"),
        ({"limits": Limits(concurrency=0)}, "concurrency"),
        ({"expires_at": 1.0}, "expires"),
        ({"adapters": ("[a-z]*",)}, "adapter"),
        ({"adapters": ("",)}, "adapter"),
    ],
)
def test_what_would_not_mean_what_its_owner_thinks_is_invalid(log: KeyLog, fields: Any, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        log.create(grants(**fields))
    assert caught.value.param == param
    assert not log.read().keys


def test_another_process_sees_everything_by_the_tail(tmp_path: Path, log: KeyLog, clock: FakeClock) -> None:
    other = KeyLog(DirectoryStore(tmp_path), clock)
    assert not other.read().keys
    key, secret = log.create(grants())
    log.create(grants("b"))
    log.revoke("acme", "b")
    assert other.read() == log.read()
    assert other.read().by_hash()[sha(secret)] == key


def test_where_roots_are_trusted_only_they_make_keys(tmp_path: Path, clock: FakeClock) -> None:
    root, thief = new_key(tmp_path / "root"), new_key(tmp_path / "thief")
    store = DirectoryStore(tmp_path / "store")
    reader = KeyLog(store, clock, trust=Trust(roots=frozenset({root.id})))
    for trust in (Trust(), Trust(thief), Trust(thief, frozenset({thief.id}))):
        KeyLog(store, clock, trust=trust).create(grants(f"forged{len(reader.read().keys)}{id(trust)}"))
    assert not reader.read().keys, "what no root signed is void"
    with pytest.raises(Refused, match="root"):
        KeyLog(store, clock, trust=Trust(thief, frozenset({root.id}))).create(grants())
    made, _ = KeyLog(store, clock, trust=Trust(root, frozenset({root.id}))).create(grants())
    assert list(reader.read().keys) == [made.id]


def test_a_revocation_that_was_cut_off_is_missed_by_whoever_saw_it(tmp_path: Path, clock: FakeClock) -> None:
    root = new_key(tmp_path / "root")
    trust = Trust(root, frozenset({root.id}), remembers=tmp_path / "memory")
    store = MemoryStore()
    log = KeyLog(store, clock, trust=trust)
    log.create(grants())
    log.revoke("acme", "shop")
    store.data = {key: data for key, data in store.data.items() if not key.endswith("2.json")}
    assert log.read().keys, "a gateway that runs goes on from what it read"
    assert find(log.read(), "acme", "shop").revoked_at is not None
    with pytest.raises(Corrupt, match="cut short"):
        KeyLog(store, clock, trust=trust).read()


@given(st.lists(st.sampled_from(["rotate", "revoke", "wait"]), max_size=8), st.floats(0, 100))
def test_whatever_happened_at_most_two_secrets_open_and_none_of_a_revoked_key(
    steps: list[str], overlap_s: float
) -> None:
    now = [1000.0]
    log = KeyLog(MemoryStore(), lambda: now[0])
    _, latest = log.create(grants())
    secrets, is_revoked = [latest], False
    for step in steps:
        if step == "wait":
            now[0] += 60
        elif is_revoked:
            with pytest.raises(Conflict):
                log.rotate("acme", "shop", overlap_s) if step == "rotate" else log.revoke("acme", "shop")
        elif step == "rotate":
            secrets.append(log.rotate("acme", "shop", overlap_s)[1])
        else:
            log.revoke("acme", "shop")
            is_revoked = True
        key = find(log.read(), "acme", "shop")
        opening = [secret for secret in secrets if key.refusal(sha(secret), now[0]) is None]
        assert opening in ([], secrets[-1:], secrets[-2:])
        assert bool(opening) != is_revoked

"""`lorimer keys`: what is printed, once and never again, and what the audit log says of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from registry.adapters import open_registry
from registry.keys import KeyLog
from registry.settings import load_settings
from tests.registry.test_commands import place, run, run_json

__all__ = ["place"]


@pytest.fixture(autouse=True)
def registry(place: Path) -> None:
    assert run("registry", "init").exit_code == 0


def opens(secret: str) -> bool:
    opened = open_registry(load_settings())
    hash = hashlib.sha256(secret.encode()).hexdigest()
    key = KeyLog.of(opened).read().by_hash().get(hash)
    return key is not None and key.refusal(hash, opened.clock()) is None


def test_a_key_is_printed_alone_on_stdout_so_that_it_can_be_piped(place: Path) -> None:
    made = run("keys", "create", "shop", "--scope", "infer")
    assert (made.exit_code, opens(made.stdout.strip())) == (0, True)
    assert "shown this once" in made.stderr
    secret = made.stdout.strip()
    everything = run("keys", "list").stdout + run("keys", "show", "shop").stdout + run("audit").stdout
    assert secret not in everything
    assert hashlib.sha256(secret.encode()).hexdigest() not in everything


def test_every_grant_can_be_given_and_is_shown(place: Path) -> None:
    made = run_json(
        "keys", "create", "shop", "--scope", "infer", "--scope", "train", "--adapter", "support-*", "--adapter", "faq",
        "--expires", "90d", "--requests-per-minute", "600", "--tokens-per-minute", "90000", "--concurrency", "8",
    )  # fmt: skip
    shown = run_json("keys", "show", made["id"])
    assert made | {"secret": None} == shown | {"secret": None}
    assert (shown["scopes"], shown["adapters"], shown["tenant"]) == (
        ["infer", "train"],
        ["support-*", "faq"],
        "default",
    )
    assert shown["limits"] == {"requests_per_minute": 600, "tokens_per_minute": 90_000, "concurrency": 8}
    assert shown["expires_at"] == pytest.approx(shown["created_at"] + 90 * 86_400, abs=60)
    drawn = run("keys", "show", "shop").stdout
    assert "support-*, faq" in drawn
    assert "concurrency 8" in drawn
    assert run_json("keys", "create", "dated", "--scope", "none", "--expires", "2100-01-01")["expires_at"] == 4102444800
    assert run_json("keys", "show", "dated")["scopes"] == []


def test_rotation_and_revocation(place: Path) -> None:
    first = run("keys", "create", "shop", "--scope", "infer").stdout.strip()
    second = run("keys", "rotate", "shop", "--overlap", "1h").stdout.strip()
    assert (opens(first), opens(second)) == (True, True)
    third = run("keys", "rotate", "shop", "--overlap", "0s").stdout.strip()
    assert [opens(each) for each in (first, second, third)] == [False, False, True]
    assert run("keys", "revoke", "shop", "--reason", "leaked").exit_code == 0
    assert not opens(third)
    assert run("keys", "list").stdout.strip() == "no keys"
    (listed,) = run_json("keys", "list", "--all")
    assert (listed["state"], listed["revoked_why"]) == ("revoked", "leaked")


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("create", "shop"), 2),
        (("create", "shop", "--scope", "root"), 2),
        (("create", "Shop", "--scope", "infer"), 2),
        (("create", "shop", "--scope", "infer", "--expires", "soon"), 2),
        (("create", "shop", "--scope", "infer", "--expires", "2001-01-01"), 2),
        (("create", "shop", "--scope", "infer", "--concurrency", "0"), 2),
        (("show", "nobody"), 3),
        (("rotate", "nobody"), 3),
        (("revoke", "nobody"), 3),
    ],
)
def test_mistakes_have_stable_exit_codes(place: Path, arguments: tuple[str, ...], exit_code: int) -> None:
    assert run("keys", *arguments).exit_code == exit_code


def test_what_is_done_to_keys_is_on_record_with_its_outcome(place: Path) -> None:
    run("keys", "create", "shop", "--scope", "infer")
    assert run("keys", "create", "shop", "--scope", "infer").exit_code == 4
    run("keys", "rotate", "shop")
    run("keys", "revoke", "shop", "--reason", "leaked")
    records = run_json("audit")
    told = [(record["action"], bool(record["error"])) for record in records]
    assert told == [("key.revoke", False), ("key.rotate", False), ("key.create", True), ("key.create", False)]
    assert records[0]["what"] == {"name": "shop", "reason": "leaked"}


def test_tenants_keep_their_keys_apart(place: Path) -> None:
    run("keys", "create", "shop", "--scope", "infer", "--tenant", "acme")
    assert run("keys", "show", "shop").exit_code == 3
    assert run("keys", "revoke", "shop", "--tenant", "globex").exit_code == 3
    assert [key["name"] for key in run_json("keys", "list", "--tenant", "acme")] == ["shop"]

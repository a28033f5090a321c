"""Rules as data: what a TOML file may say, what cannot be followed, and how rules read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.errors import Invalid
from registry.rules import AliasRule, Bound, read_rules, to_rules

ADA, BOB = f"ed25519:{'a' * 64}", f"ed25519:{'b' * 64}"
VALUES: dict[str, Any] = {"keys": {"ada": ADA, "bob": BOB}, "owners": ["ada"]}
TOML = f"""
owners = ["ada"]
reviewers = ["bob"]
[keys]
ada = "{ADA}"
bob = "{BOB}"
[aliases.prod]
signers = ["bob"]
reviews = 1
suites = {{test = "{"c" * 64}"}}
metrics = {{"test/accuracy" = {{min = 0.9}}, loss = {{max = 1}}}}
"""


def test_rules_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(TOML)
    rules = read_rules(tmp_path / "rules.toml")
    assert rules.alias_rule("prod").metrics["loss"] == Bound(max=1.0)
    assert rules.alias_rule("prod").needs == [
        "1 review",
        "rows cccccccccccc as test",
        "loss at most 1",
        "test/accuracy at least 0.9",
    ]
    assert rules.alias_rule("canary") == AliasRule(), "what no rule allows is for owners only"
    assert rules.names_of([BOB, "ed25519:unknown"]) == ("bob",)


def test_the_digest_is_of_the_meaning() -> None:
    other = {"owners": ["ada"], "publishers": [], "keys": {"bob": BOB, "ada": ADA}}
    assert to_rules(VALUES).digest == to_rules(other).digest != to_rules({**VALUES, "owners": ["bob"]}).digest


def test_the_star_is_for_aliases_without_a_rule_of_their_own() -> None:
    rules = to_rules({**VALUES, "aliases": {"*": {"signers": ["bob"]}, "prod": {"signers": ["ada"]}}})
    assert rules.alias_rule("canary").signers == ("bob",)
    assert rules.alias_rule("prod").signers == ("ada",)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"owners": []}, "0 owners, 1 needed"),
        ({"owners_needed": 2}, "1 owners, 2 needed"),
        ({"owners_needed": 0}, "owners_needed"),
        ({"owners": ["eve"]}, "owners names eve"),
        ({"publishers": ["bob", "bob"]}, "somebody twice"),
        ({"keys": {"ada": ADA, "bob": ADA}}, "two names"),
        ({"keys": {"ada": "ed25519:12"}}, "not a public key"),
        ({"aliases": {"prod": {"signers": ["eve"]}}}, "aliases.prod.signers names eve"),
        ({"aliases": {"prod": {"reviews": 2}}}, "more than there are reviewers"),
        ({"aliases": {"prod": {"reviews": -1}}}, "reviews"),
        ({"aliases": {"prod": {"metrics": {"loss": {}}}}}, "by nothing"),
        ({"aliases": {"prod": {"metrics": {"loss": {"min": float("nan")}}}}}, "by nothing"),
        ({"aliases": {"v3": {}}}, "would read as a version"),
        ({"aliases": {"prod": {"reviewers": ["bob"]}}}, "reviewers"),
        ({"owner": ["ada"]}, "unknown field `owner`"),
    ],
)
def test_rules_that_cannot_be_followed(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        to_rules(VALUES | changed)


@pytest.mark.parametrize("text", [b"owners = [", b"\xff"])
def test_unreadable_files(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "rules.toml").write_bytes(text)
    with pytest.raises(Invalid, match="not TOML"):
        read_rules(tmp_path / "rules.toml")
    with pytest.raises(Invalid, match="cannot be read"):
        read_rules(tmp_path / "absent.toml")


def test_bounds() -> None:
    assert Bound(min=0.5, max=1).allows(0.5)
    assert not Bound(min=0.5).allows(0.49)
    assert not Bound(max=1).allows(1.01)
    assert str(Bound(min=0.5, max=1)) == "at least 0.5 and at most 1"

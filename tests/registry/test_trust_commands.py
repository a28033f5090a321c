"""Keys, rules, reviews and upgrades from the command line: what they print, refuse and tell of violations."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.directory import DirectoryStore
from tests.registry.folders import write_folder
from tests.registry.people import NAMES, People
from tests.registry.test_commands import place, run, run_json

__all__ = ["place"]

RULES = """
owners = ["ada"]
publishers = ["worker"]
reviewers = ["bob"]
[keys]
{keys}
[aliases.prod]
signers = ["worker"]
reviews = 1
metrics = {{"test/accuracy" = {{min = 0.9}}}}
"""


@pytest.fixture
def people(place: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    """A registry with the base; everybody's key in `<name>.key`; this machine trusts the root."""
    assert run("registry", "init").exit_code == 0
    people = People(DirectoryStore(place / "store"), place)
    (place / "trusted").write_text(f"{people.key('root').id} the root\n")
    monkeypatch.setenv("LORIMER_TRUSTED_KEYS", str(place / "trusted"))
    monkeypatch.setenv("LORIMER_CACHE_DIR", str(place / "cache"))
    return people


@pytest.fixture
def rules(place: Path, people: People) -> str:
    keys = "\n".join(f'{name} = "{people.key(name).id}"' for name in NAMES)
    (place / "rules.toml").write_text(RULES.format(keys=keys))
    return str(place / "rules.toml")


def sign_as(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIMER_SIGNING_KEY", f"{name}.key")


def test_keys(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("registry", "key", "new")
    assert (result.exit_code, "name a file, or set signing_key" in result.stderr) == (2, True)
    made = run("registry", "key", "new", "my.key")
    assert made.stdout.startswith("ed25519:")
    assert "keep it" in made.stderr
    assert run("registry", "key", "show", "my.key").stdout == made.stdout
    assert run("registry", "key", "new", "my.key").exit_code == 4
    assert run("registry", "key", "show", "other.key").exit_code == 3
    sign_as("my", monkeypatch)
    assert run_json("registry", "key", "show")["key"] == made.stdout.strip()
    result = run("registry", "key", "new", "store/my.key")
    assert (result.exit_code, "lies in the store itself" in result.stderr) == (5, True)
    assert "PRIVATE" not in made.output


def test_from_first_rules_to_prod(place: Path, people: People, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_folder(place / "one", seed=1))
    result = run("registry", "push", folder, "support")
    assert (result.exit_code, "has no rules signed by a trusted key" in result.stderr) == (5, True)
    sign_as("root", monkeypatch)
    result = run("registry", "rules", "support", rules)
    assert result.exit_code == 0, result.output
    assert "support: rules sha256:" in result.stdout
    assert "are in force" in run("registry", "rules", "support", rules).stdout
    shown = run("registry", "rules", "support").stdout
    assert "needs test/accuracy at least 0.9" in shown
    assert "moved by worker" in shown
    sign_as("worker", monkeypatch)
    people.as_("worker").publish("support", Path(folder), metrics={"test/accuracy": 0.95})
    result = run("registry", "alias", "support", "prod", "v1")
    assert (result.exit_code, "it has 0 of 1 approvals" in result.stderr) == (5, True)
    assert run("registry", "review", "support", "v1", "--approve").exit_code == 5
    sign_as("bob", monkeypatch)
    assert "approved support@v1 sha256:" in run("registry", "review", "support", "v1", "--approve").stdout
    assert run("registry", "review", "support", "v1").exit_code == 2
    sign_as("worker", monkeypatch)
    assert run("registry", "alias", "support", "prod", "v1").exit_code == 0
    shown = run("registry", "show", "support").stdout
    assert "signed by" in shown
    assert "review by bob" in shown


def test_violations_are_told(place: Path, people: People, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_as("root", monkeypatch)
    run("registry", "rules", "support", rules)
    people.as_("worker").publish("support", people.folder())
    people.thief().alias("support", "prod", "v1")
    told = "moving prod is for ada, worker, not for somebody without a key"
    assert f"VOID ({told})" in run("registry", "log", "support").stdout
    assert [event["void"] for event in run_json("registry", "log", "support")] == [None, None, told]
    assert f"event 3 of thief is void: {told}" in run("registry", "verify").stderr
    assert run_json("registry", "verify")[0]["violations"][0]["n"] == 3
    assert told in run("registry", "show", "support@v1").stdout
    assert run("registry", "show", "support").exit_code == 0, "without prod, the newest"


def test_a_log_can_be_read_before_it_is_trusted(people: People) -> None:
    people.without_roots().publish("support", people.folder())
    assert "publish sha256:" in run("registry", "log", "support").stdout
    assert run("registry", "show", "support").exit_code == 5
    assert run("registry", "rules", "support").exit_code == 5


def test_rules_that_are_not_there(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORIMER_TRUSTED_KEYS")
    people.without_roots().publish("support", people.folder())
    result = run("registry", "rules", "support")
    assert (result.exit_code, "whoever can write to the store may do everything" in result.stderr) == (3, True)


def test_two_owners(place: Path, people: People, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(rules).read_text()
    both = place / "both.toml"
    both.write_text(text.replace('owners = ["ada"]', 'owners = ["ada", "bob"]\nowners_needed = 2'))
    sign_as("root", monkeypatch)
    assert run("registry", "rules", "support", str(both)).exit_code == 0
    assert "ada, bob (2 must agree on new rules)" in run("registry", "rules", "support").stdout
    sign_as("ada", monkeypatch)
    result = run("registry", "rules", "support", rules)
    assert (result.exit_code, "need 2 owners to agree; ada did" in result.stderr) == (5, True)
    sign_as("bob", monkeypatch)
    assert "agreed (event 2)" in run("registry", "rules", "support", rules, "--agree", "--note", "fine").stdout
    sign_as("ada", monkeypatch)
    assert "in force (event 3)" in run("registry", "rules", "support", rules).stdout


@pytest.mark.parametrize(
    ("setting", "text", "code", "problem"),
    [
        ("SIGNING_KEY", None, 3, "there is no key"),
        ("SIGNING_KEY", "secret words", 2, "not an unencrypted private key"),
        ("TRUSTED_KEYS", None, 3, "no file of trusted keys"),
        ("TRUSTED_KEYS", "", 2, "names no key"),
    ],
)
def test_bad_key_files_are_one_line(
    *,
    place: Path,
    people: People,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    text: str | None,
    code: int,
    problem: str,
) -> None:
    if text is not None:
        (place / "file").touch(0o600)
        (place / "file").write_text(text)
    monkeypatch.setenv(f"LORIMER_{setting}", str(place / "file"))
    result = run("registry", "list")
    assert (result.exit_code, problem in result.stderr) == (code, True)
    assert "secret" not in result.output


def test_modes_and_upgrade(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "single-writer (loader) registry" in run("registry", "init", "--single-writer", "loader").stdout
    result = run("registry", "policy", "x", "capture=true")
    assert (result.exit_code, "has 'loader' as its single writer" in result.stderr) == (5, True)
    monkeypatch.setenv("LORIMER_WRITER", "loader")
    assert run("registry", "policy", "x", "capture=true").exit_code == 0
    assert "has format 2 already" in run("registry", "upgrade").stdout
    marker = place / "store" / "registry.json"
    marker.write_text(marker.read_text().replace('"format":2', '"format":1'))
    assert "has format 2, was 1" in run("registry", "upgrade").stdout

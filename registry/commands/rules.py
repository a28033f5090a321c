"""`lorimer registry rules | review`: who may do what, and what reviewers say. Decides nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from registry import consent
from registry.adapters import open_registry
from registry.errors import NotFound
from registry.rules import Rules, read_rules
from registry.signing import short
from registry.terminal import Terminal, command, table


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--agree", is_flag=True, help="Approve exactly these rules, for another owner to set.")
@click.option("--note", default="", help="Recorded in the log with --agree.")
@command
def rules(terminal: Terminal, *, name: str, file: Path | None, agree: bool, note: str) -> None:
    """Show who may do what with adapter NAME, or set it from the TOML in FILE.

    The event must be signed (`signing_key`): by a root for the first rules, later by as many owners as
    the rules in force demand. It vouches for all that the adapter's log holds so far: look at that first.

    \b
    owners = ["ada"]                        may do everything, new rules included
    publishers = ["worker"]
    reviewers = ["bob", "eve"]
    [keys]
    ada = "ed25519:..."                     as `lorimer registry key show` prints them
    [aliases.prod]
    signers = ["worker"]
    reviews = 1                             by others than the publisher
    metrics = {"test/accuracy" = {min = 0.9}}
    suites = {test = "<sha256 of its rows>"}
    [aliases."*"]
    signers = ["worker"]
    """
    opened = open_registry(terminal.settings)
    if file is None:
        found = opened.state(name).rules
        if found is None:
            raise NotFound(f"adapter {name} has no rules: whoever can write to the store may do everything")
        terminal.result(_record(found), _drawn(found))
        return
    wanted = read_rules(file)
    event = opened.commit(name, consent.agree(wanted, note) if agree else consent.set_rules(wanted), create=True)
    done = "these rules are in force" if event is None else f"{'agreed' if agree else 'in force'} (event {event.n})"
    terminal.result(_record(wanted), f"{name}: rules {wanted.digest} {done}")


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--approve", is_flag=True, help="It may be used.")
@click.option("--reject", is_flag=True, help="It may not.")
@click.option("--note", default="", help="Recorded in the log.")
@command
def review(terminal: Terminal, *, name: str, version: str, approve: bool, reject: bool, note: str) -> None:
    """Approve or reject VERSION (v3, a digest, an alias) of adapter NAME, signed with your key.

    Your last word counts. Whether an alias needs it is said by the adapter's rules.
    """
    if approve == reject:
        raise click.UsageError("say either --approve or --reject")
    opened = open_registry(terminal.settings)
    found = opened.show(f"{name}@{version}")
    event = opened.commit(name, consent.review(found, "approve" if approve else "reject", note))
    said = "approved" if approve else "rejected"
    terminal.result(msgspec.to_builtins(event), f"{said} {found.name} {found.digest}")


def _record(found: Rules) -> dict[str, Any]:
    return {**msgspec.to_builtins(found), "digest": found.digest}


def _drawn(found: Rules) -> Any:
    agree = f" ({found.owners_needed} must agree on new rules)" if found.owners_needed > 1 else ""
    rows = [
        ("owners", ", ".join(found.owners) + agree),
        ("publishers", ", ".join(found.publishers) or "owners only"),
        ("reviewers", ", ".join(found.reviewers) or "owners only"),
        *((f"key {name}", short(key)) for name, key in sorted(found.keys.items())),
    ]
    for alias, rule in sorted(found.aliases.items()):
        rows.append((f"alias {alias}", f"moved by {', '.join(rule.signers) or 'owners only'}"))
        rows += [(f"alias {alias}", f"needs {need}") for need in rule.needs]
    return table(["", ""], rows)

"""`lorimer registry alias | rollback`: which version a name means. Decides nothing itself."""

from __future__ import annotations

import click
import msgspec

from registry.adapters import open_registry
from registry.commands.version import version_record
from registry.terminal import Terminal, command


@click.command()
@click.argument("name")
@click.argument("alias")
@click.argument("target")
@click.option("--expect", help="Move only if the alias stands here now (v2 or a digest; `none`: not set).")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def alias(terminal: Terminal, *, name: str, alias: str, target: str, expect: str | None, reason: str) -> None:
    """Point ALIAS of adapter NAME to TARGET: v2, a digest, another alias, or `none` to remove it.

    Exits 4 and says where the alias stands when --expect does not hold.
    """
    opened = open_registry(terminal.settings)
    expected = msgspec.UNSET if expect is None else None if expect == "none" else expect
    event = opened.alias(name, alias, None if target == "none" else target, expect=expected, reason=reason)
    terminal.result(msgspec.to_builtins(event), f"{name}@{alias} -> {target} (event {event.n})")


@click.command()
@click.argument("name")
@click.option("--alias", default="prod", show_default=True, help="Which alias.")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def rollback(terminal: Terminal, name: str, alias: str, reason: str) -> None:
    """Put an alias back to where it stood before, as the log tells it. Again: one further back."""
    version = open_registry(terminal.settings).rollback(name, alias, reason)
    terminal.result(version_record(version), f"{name}@{alias} -> {version.name} {version.digest}")

"""`lorimer registry policy`: what an adapter's owner decided. Decides nothing itself."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from registry.adapters import open_registry
from registry.errors import NotFound
from registry.policy import Policy, read_policy
from registry.terminal import Terminal, command, key_value, table


@click.command()
@click.argument("name")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@command
def policy(terminal: Terminal, name: str, changes: tuple[str, ...]) -> None:
    """Show an adapter's capture and retraining policy, or change it.

    \b
    lorimer registry policy support capture=true retrain=auto min_examples=32
    """
    opened = open_registry(terminal.settings)
    try:
        current = opened.policy(name)
    except NotFound:
        if not changes:
            raise
        current = Policy()
    if changes:
        current = read_policy(msgspec.to_builtins(current) | dict(_change(change) for change in changes))
        opened.set_policy(name, current)
    values = msgspec.to_builtins(current)
    terminal.result(values, table(["policy", ""], sorted(values.items())))


def _change(text: str) -> tuple[str, Any]:
    key, value = key_value(text)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value

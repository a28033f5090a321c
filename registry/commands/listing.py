"""`lorimer registry list`: what there is. Decides nothing itself."""

from __future__ import annotations

import click
import msgspec

from registry.adapters import open_registry
from registry.terminal import Terminal, command, table, when


@click.command("list")
@command
def list_adapters(terminal: Terminal) -> None:
    """Every adapter with its newest version and aliases."""
    summaries = open_registry(terminal.settings).list()
    rows = [
        (
            summary.adapter,
            f"v{summary.latest}" if summary.latest else "-",
            summary.num_versions,
            ", ".join(f"{alias}=v{number}" for alias, number in summary.aliases.items()),
            summary.base,
            when(summary.updated_at),
        )
        for summary in summaries
    ]
    drawn = table(["adapter", "latest", "versions", "aliases", "base", "changed"], rows)
    terminal.result(msgspec.to_builtins(summaries), drawn if rows else "no adapters yet")

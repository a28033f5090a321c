"""`lorimer registry init | doctor`: the store itself. Decides nothing itself."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from registry.adapters import Registry
from registry.doctor import Verdict, probe
from registry.errors import Refused
from registry.store import store_of
from registry.terminal import Terminal, command, progress_bar, table


@click.command()
@click.option("--read-only", is_flag=True, help="Accept a store that fails the probe; nothing can be written later.")
@command
def init(terminal: Terminal, read_only: bool) -> None:
    """Probe the store and create a registry in it. Doing it again changes nothing."""
    store = store_of(terminal.settings)
    marker = Registry(store, terminal.settings.tenant).init(read_only=read_only)
    mode = "read-only" if marker.read_only else "writable"
    terminal.result(msgspec.to_builtins(marker), f"{mode} registry at {store.url}")


@click.command()
@click.argument("url", required=False)
@command
def doctor(terminal: Terminal, url: str | None) -> None:
    """Measure whether a store can hold a registry (URL, or the configured store).

    Creates a few small objects below doctor/ in the real bucket and prefix, races for them over
    separate connections, and removes them. Exits 5 when the store must not be used.
    """
    store = store_of(terminal.settings, url or "")
    with progress_bar(terminal, "racing", count=True) as progress:
        verdict = probe(store, progress=progress)
    if not verdict.passed:
        if not terminal.as_json:
            terminal.result(None, _verdict_table(verdict))
        raise Refused(f"{verdict.url} cannot hold a writable registry: {'; '.join(verdict.failures)}")
    terminal.result(msgspec.to_builtins(verdict), _verdict_table(verdict))
    terminal.say(f"{verdict.url} can hold a registry")


def _verdict_table(verdict: Verdict) -> Any:
    words = {True: "ok", False: "FAILED", None: "-"}
    return table(["check", "", "found"], [(check.name, words[check.passed], check.detail) for check in verdict.checks])

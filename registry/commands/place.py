"""`lorimer registry init | upgrade | doctor`: the store itself. Decides nothing itself."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from registry.adapters import Registry
from registry.doctor import Verdict, probe
from registry.errors import Refused
from registry.marker import read_marker, upgrade
from registry.store import store_of
from registry.terminal import Terminal, command, progress_bar, table


@click.command()
@click.option("--read-only", is_flag=True, help="Accept a store that fails the probe; nothing can be written later.")
@click.option(
    "--single-writer",
    "writer",
    metavar="NAME",
    help="Accept a store that cannot decide races: only the process with LORIMER_WRITER=NAME may write.",
)
@command
def init(terminal: Terminal, read_only: bool, writer: str | None) -> None:
    """Probe the store and create a registry in it. Doing it again changes nothing.

    A store that fails the probe is refused. Naming another --single-writer hands over to it: stop the old one first.
    """
    store = store_of(terminal.settings)
    marker = Registry(store, terminal.settings.tenant).init(read_only=read_only, writer=writer)
    terminal.result(msgspec.to_builtins(marker), f"{marker.mode} registry at {store.url}")


@click.command("upgrade")
@command
def upgrade_format(terminal: Terminal) -> None:
    """Raise the registry's format to this program's, so that all it can do is allowed there.

    Programs that know only an older format then refuse what is new: update them first. Nothing is rewritten.
    """
    store = store_of(terminal.settings)
    before, after = read_marker(store), upgrade(store)
    text = f"{store.url} has format {after.format}" + (f", was {before.format}" if before != after else " already")
    terminal.result(msgspec.to_builtins(after), text)


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
        raise Refused(f"{verdict.in_words}: {'; '.join(verdict.failures)}")
    terminal.result(msgspec.to_builtins(verdict), _verdict_table(verdict))
    terminal.say(verdict.in_words)


def _verdict_table(verdict: Verdict) -> Any:
    words = {True: "ok", False: "FAILED", None: "-"}
    return table(["check", "", "found"], [(check.name, words[check.passed], check.detail) for check in verdict.checks])

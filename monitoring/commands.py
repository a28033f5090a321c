"""`lorimer monitor`: the loop in a terminal."""

from __future__ import annotations

import signal
import threading
from typing import Any

import click
from rich.live import Live
from rich.table import Table

from monitoring.monitor import Monitor, Poll
from registry.adapters import open_registry
from registry.terminal import Terminal, command, table

_COLUMNS = ("adapter", "version", "state", "sessions", "evidence", "threshold", "mmd", "alarms", "what")


@click.command()
@click.option("--once", is_flag=True, help="Fold what is there, print the status and end.")
@click.option("--approve", metavar="ADAPTER", help="Let the retraining of this adapter's drift episode begin, and end.")
@command
def monitor(terminal: Terminal, once: bool, approve: str | None) -> None:
    """Watch observations for drift, open episodes and file retraining jobs.

    Any number of monitors may run; one works and the others stand by. With --json and without --once, prints one
    line of JSON per poll that changed something.
    """
    registry = open_registry(terminal.settings)
    watcher = Monitor(registry, terminal.settings, registry.clock)
    if approve:
        episode = watcher.approve(approve, registry.actor)
        terminal.result({"adapter": approve, "approved": episode}, f"episode {episode} of {approve} is approved")
    elif once:
        _once(terminal, watcher)
    else:
        _loop(terminal, watcher)


def _once(terminal: Terminal, watcher: Monitor) -> None:
    poll = watcher.poll()
    while poll.more:
        poll = watcher.poll()
    statuses = _statuses(watcher)
    watcher.close()
    if not poll.leading:
        terminal.say("another monitor is at work; this one stands by")
    terminal.result({"leading": poll.leading, "adapters": statuses}, _table(statuses))


def _loop(terminal: Terminal, watcher: Monitor) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if terminal.as_json:
        watcher.run(stop, lambda poll: _print_json(terminal, watcher, poll))
        return
    with Live(_table([]), console=terminal.out, auto_refresh=False) as live:
        watcher.run(stop, lambda poll: live.update(_live(watcher, poll), refresh=True))


def _print_json(terminal: Terminal, watcher: Monitor, poll: Poll) -> None:
    if poll.num_objects:
        terminal.result({"leading": poll.leading, "adapters": _statuses(watcher)})


def _live(watcher: Monitor, poll: Poll) -> Table:
    drawn = _table(_statuses(watcher))
    drawn.caption = "at work" if poll.leading else "standing by: another monitor is at work"
    return drawn


def _statuses(watcher: Monitor) -> list[dict[str, Any]]:
    return [watcher.status(adapter) for adapter in watcher.adapters()]


def _table(statuses: list[dict[str, Any]]) -> Table:
    return table(_COLUMNS, [_row(status) for status in statuses], title="drift")


def _row(status: dict[str, Any]) -> list[str]:
    return [
        status["adapter"],
        f"v{status['version']}" if status["version"] else "-",
        status["state"],
        str(status["sessions"] or 0),
        _number(status["log_evidence"]),
        _number(status["log_threshold"]),
        _number(status["mmd"]),
        str(status["alarms"]),
        _what(status),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _what(status: dict[str, Any]) -> str:
    """One line on what is going on or stands in the way."""
    if status["unwatched"]:
        return f"not watched: {status['unwatched']}"
    if status["waiting_for"]:
        return "waits: " + "; ".join(status["waiting_for"])
    if status["state"] in ("OK", "WATCH") or not status["episode"]:
        return ""
    return str(status["episode"]["reason"] or status["episode"]["attribution"]["summary"])

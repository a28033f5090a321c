"""Tells the demo: numbered steps, claims that are checked as they are told, progress bars. Knows no step's content."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule

from registry.errors import LorimerError
from registry.terminal import Terminal, table


class StepFailed(LorimerError):
    """The demo stopped; the message says at which step and why."""

    kind = "step_failed"


class Narrator:
    """Speaks to stderr, so that `--json` keeps stdout for the one closing document."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._number = 0
        self.seconds: dict[str, float] = {}
        self.claims: list[str] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step of the story; any error inside is re-raised with the step's name."""
        self._number += 1
        started = time.monotonic()
        name = f"step {self._number}: {title}"
        if not self._terminal.as_json:
            self._terminal.err.print(Rule(f"[bold]{name}", align="left"))
        try:
            yield
        except StepFailed:
            raise
        except (LorimerError, OSError, RuntimeError, ValueError, KeyError, TimeoutError) as error:
            raise StepFailed(f"{name} failed: {error}", hint=type(error).__name__) from error
        self.seconds[title] = round(time.monotonic() - started, 1)

    def say(self, text: str) -> None:
        self._terminal.say(text)

    def show(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
        if not self._terminal.as_json:
            self._terminal.err.print(table(columns, rows, title))

    def claim(self, holds: bool, text: str) -> None:
        """Something the demo promises to show: told with a tick, or the demo fails here."""
        if not holds:
            raise StepFailed(f"step {self._number} failed: not true that {text}")
        self.claims.append(text)
        self._terminal.say(f"[green]✓[/green] {text}")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        columns = (TextColumn("  {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._terminal.err, disable=self._terminal.as_json) as bar:
            yield bar

"""What a waiting person sees: the part that runs and its latest word; plain lines where nobody watches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._bars: Bars | None = None
        self._part = ""

    def say(self, line: str) -> None:
        """A line that stays."""
        (self._bars.console if self._bars else self._console).print(line, markup=False, soft_wrap=True)

    def step(self, word: str) -> None:
        """The latest word of the part that runs."""
        if self._console.is_terminal and self._bars is not None:
            self._bars.update(self._bars.task_ids[0], description=f"{self._part}: {word}")
        else:
            self.say(f"{self._part}: {word}")

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        self._part = name
        with Bars(*self._columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            bars.add_task(name, total=None)
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None
        self.say(f"{name}: done in {time.monotonic() - started:.0f} s")

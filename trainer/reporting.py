"""How a training tells how far it is: one callable, whoever listens. Knows what to say, not where it is shown."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import Progress, TaskID

Report = Callable[[str, int, int, str], None]
"""Called with (stage, done, total, note)."""


def silent(_stage: str, _done: int, _total: int, _note: str = "") -> None:
    """Say nothing."""


def on_bar(bar: Progress) -> Report:
    """One line of a rich progress display for each stage."""
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage)
        description = f"{stage}: {note}" if note else stage
        bar.update(tasks[stage], completed=done, total=total, description=description)

    return report

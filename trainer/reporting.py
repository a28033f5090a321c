"""How a training tells how far it is: one callable, whoever listens. Knows what to say, not where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from rich.progress import Progress, TaskID

Numbers = Mapping[str, float]
NONE: Numbers = MappingProxyType({})


class Report(Protocol):
    """`numbers` are what is measured on the way, by name; `note` says the same to people."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", numbers: Numbers = NONE, /) -> None: ...


def silent(_stage: str, _done: int, _total: int, _note: str = "", _numbers: Numbers = NONE, /) -> None:
    """Say nothing."""


def on_bar(bar: Progress) -> Report:
    """One line of a rich progress display for each stage."""
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int, note: str = "", _numbers: Numbers = NONE, /) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage)
        description = f"{stage}: {note}" if note else stage
        bar.update(tasks[stage], completed=done, total=total, description=description)

    return report

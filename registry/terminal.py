"""What every command shares: the context it runs in, how it prints, and how an error becomes an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click
import structlog
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from registry.errors import Invalid, LorimerError
from registry.settings import Settings, load_settings

P = ParamSpec("P")
R = TypeVar("R")

PIPE_WIDTH = 500
"""Tables are not folded for readers that are programs."""


def _stdout() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


@dataclass
class Terminal:
    """Where a command's words go: results to stdout (text or JSON), narration to stderr."""

    settings: Settings
    as_json: bool = False
    out: Console = field(default_factory=_stdout)
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))

    def result(self, value: Any, text: str | Table | None = None) -> None:
        """Print a command's result: `value` as one JSON document under --json, else `text`."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, default=str) + "\n")
        elif text is not None:
            self.out.print(text, markup=False) if isinstance(text, str) else self.out.print(text)

    def say(self, text: str) -> None:
        """Narrate progress; silent under --json."""
        if not self.as_json:
            self.err.print(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """A plain table in which no cell is read as markup."""
    drawn = Table(title=title, box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(click.unstyle(str(cell)).replace("[", "\\[") for cell in row))
    return drawn


SETTING_OPTIONS: tuple[tuple[str, str], ...] = (
    ("store", "Registry: file:///dir or s3://bucket/prefix."),
    ("base", "Base model: a hub id, a directory, a .gguf file, or smollm2-135m."),
    ("dtype", "float32, bfloat16 or auto."),
    ("tenant", "Tenant to act as."),
    ("cache-dir", "Where verified adapters and converted weights are kept."),
)

SETTING_FLAGS = ("host", "port", "pinned", "vllm_metric_aliases")
"""Options of single commands that are settings as well."""


def command(function: Callable[Concatenate[Terminal, P], R]) -> Callable[P, R]:
    """Give a click command `--json` and the common settings, and pass it a `Terminal` first."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.pop("as_json"))
        flags = {name.replace("-", "_"): kwargs.pop(name.replace("-", "_")) for name, _ in SETTING_OPTIONS}
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        try:
            flags |= {key: kwargs[key] for key in SETTING_FLAGS if key in kwargs}
            return function(Terminal(load_settings(flags), as_json), *args, **kwargs)
        except LorimerError as error:
            fail(error, as_json=as_json)

    decorated: Callable[P, R] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(run)
    for name, text in reversed(SETTING_OPTIONS):
        decorated = click.option(f"--{name}", help=text, default=None)(decorated)
    return decorated


@contextmanager
def progress_bar(terminal: Terminal, title: str, *, count: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that goes away when done; silent under --json and where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn() if count else DownloadColumn())
    hidden = terminal.as_json or not terminal.err.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=terminal.err, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def key_value(text: str) -> tuple[str, str]:
    """Split a KEY=VALUE argument."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Invalid(f"{text!r} is not KEY=VALUE")
    return key, value


def when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def fail(error: LorimerError, *, as_json: bool) -> NoReturn:
    """Print one readable line (or JSON object) and exit with the error's stable code."""
    if as_json:
        problem = {"error": error.kind, "message": error.message, "hint": error.hint}
        sys.stdout.write(json.dumps(problem) + "\n")
    else:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", style="red", markup=False)
    sys.exit(error.exit_code)

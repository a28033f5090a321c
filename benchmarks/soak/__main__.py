"""`python -m benchmarks.soak`: exit code 1 on any fault."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.soak.memory import resident_bytes
from benchmarks.soak.run import Plan, soak
from benchmarks.soak.tiny import write_tiny_base
from registry.settings import Settings, load_settings
from registry.terminal import table
from serving.base import load_base

REQUESTS = 50_000
SMALL: dict[str, Any] = {"max_batch": 16, "kv_tokens": 1536, "prefill_tokens": 128, "max_context": 512}
"""Settings so tight that rows wait, are preempted and read their prompts in pieces."""
DRAWN = (
    *("seconds", "requests_per_s", "tokens", "ended", "integrity_checks", "answers_compared", "answers_differing"),
    *("hits", "misses", "evictions", "overdrafts", "byte_budget", "peak_bytes", "load_ms_mean", "preemptions"),
    *("most_adapters_in_a_step", "memory_warm_mb", "memory_end_mb", "memory_growth"),
)


@click.command()
@click.option("--requests", type=int, default=None, help="Stop after so many; 50,000 unless --minutes is given.")
@click.option("--minutes", type=float, default=None, help="Stop after this time.")
@click.option("--base", default="tiny", show_default=True, help="tiny, or any base that `lorimer serve` takes.")
@click.option("--adapters", default=200, show_default=True)
@click.option("--in-flight", default=32, show_default=True, help="Requests open at once.")
@click.option("--budget-share", default=0.25, show_default=True, help="Share of the adapters that memory holds.")
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the report there, as JSON.")
def main(requests: int | None, minutes: float | None, base: str, out: Path | None, **options: Any) -> None:
    """Random traffic over many adapters, with loads, evictions and clients that leave."""
    console = Console(stderr=True)
    most = requests or (REQUESTS if minutes is None else sys.maxsize)
    plan = Plan(most, None if minutes is None else 60 * minutes, **options)
    with tempfile.TemporaryDirectory(prefix="lorimer-soak-") as temporary, _drawing(console) as on_progress:
        settings = _settings(base, Path(temporary))
        loaded = load_base(settings)
        report = soak(loaded, settings, Path(temporary), plan, on_progress)
    report |= {"base": loaded.profile.identity.id, "dtype": str(loaded.dtype), "machine": _machine()}
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n")
    _show(report, console)
    sys.exit(1 if report["faults"] else 0)


def _settings(base: str, root: Path) -> Settings:
    if base != "tiny":
        return load_settings(SMALL | {"base": base})
    directory = str(write_tiny_base(root / "base"))
    return load_settings(
        SMALL | {"base": directory, "cache_dir": str(root / "bases"), "dtype": "float32", "threads": 1}
    )


def _show(report: dict[str, Any], console: Console) -> None:
    rows = [(name.replace("_", " "), _readable(report[name])) for name in DRAWN]
    Console().print(table(("", f"{report['requests']:,} requests over {report['adapters']} adapters"), rows))
    for fault in report["faults"]:
        console.print(f"FAULT {fault}", style="red", markup=False)
    console.print(f"[red]{len(report['faults'])} faults" if report["faults"] else "[green]no fault")


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number:,} {name}" for name, number in value.items())
    return f"{value:,}"


@contextmanager
def _drawing(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[memory]}"), console=console) as progress:
        tasks: dict[str, Any] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total, memory="")
            memory = f"{(resident_bytes() or 0) / 1e6:,.0f} MB"
            progress.update(tasks[what], completed=done, total=total, memory=memory)

        yield on_progress


def _machine() -> str:
    return f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}"


if __name__ == "__main__":
    main()

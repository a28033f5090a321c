"""`python -m benchmarks.gateway [load | hostile | soak]`: exit code 1 when a bar is not met."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from benchmarks.gateway import hostile, load, soak
from benchmarks.gateway.load import Plan
from benchmarks.gateway.process import Served, gateway
from benchmarks.gateway.report import keep, passed
from benchmarks.machine import describe, load_average

Measure = Callable[[Served, Plan], dict[str, Any]]


def say(line: str) -> None:
    click.echo(line, err=True)


@click.group(invoke_without_command=True)
@click.option("--base", default="smollm2-135m", show_default=True, help="tiny, or any base that `lorimer serve` takes.")
@click.option("--threads", default=1, show_default=True, help="Of the engine; the clients need a core as well.")
@click.option("--max-batch", default=16, show_default=True)
@click.option("--max-waiting", default=64, show_default=True)
@click.option("--answer", default=32, show_default=True, help="Tokens of an answer.")
@click.option("--seconds", default=12.0, show_default=True, help="Of each measurement.")
@click.option("--keep/--no-keep", "kept", default=False, help="Write benchmarks/results/gateway.json and the README.")
@click.pass_context
def bench(context: click.Context, **options: Any) -> None:
    """Load a gateway of its own: without a command, the open loop."""
    context.obj = options
    if context.invoked_subcommand is None:
        context.invoke(open_loop)


@bench.command("load")
@click.pass_obj
def open_loop(options: dict[str, Any]) -> None:
    """From capacity to ten times as much."""
    _run("load", options, lambda served, plan: load.measure(served, plan, options["max_batch"], say))


@bench.command("hostile")
@click.pass_obj
def beside_hostile(options: dict[str, Any]) -> None:
    """What hostile clients cost the others."""
    _run("hostile", options, lambda served, plan: hostile.measure(served, plan, say))


@bench.command("soak")
@click.option("--minutes", default=60.0, show_default=True)
@click.pass_obj
def long_soak(options: dict[str, Any], minutes: float) -> None:
    """A long time of everything."""
    _run("soak", options, lambda served, plan: soak.measure(served, plan, minutes, say))


def _run(part: str, options: dict[str, Any], measure: Measure) -> None:
    chosen = {name: options[name] for name in ("base", "threads", "max_batch", "max_waiting")}
    conditions = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": describe(),
        "load_before": load_average(),
        **chosen,
    }
    with gateway(**chosen) as served:
        found = measure(served, Plan(options["seconds"], options["answer"]))
    for name, value in found.items():
        if name != "points":
            click.echo(f"{name}: {value}")
    if options["kept"]:
        keep(part, found, conditions)
    sys.exit(0 if passed(part, found) else 1)


if __name__ == "__main__":
    bench(prog_name="python -m benchmarks.gateway")

"""`make bench`: the whole table, ours beside the peers, in one run on one machine.

Exit codes: 0 every bar passed; 1 a bar failed; 2 wrong usage; 3 something could not be measured.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from rich.console import Console

from benchmarks.bars import judge
from benchmarks.cases import GROUPS
from benchmarks.machine import load_average
from benchmarks.materials import prepare
from benchmarks.peers.roster import DEFAULT, PEERS
from benchmarks.plot import draw
from benchmarks.progress import Progress
from benchmarks.report import details, rewrite_readme, terminal_tables
from benchmarks.results import LATEST, OURS, Results
from benchmarks.run import Run, chosen_peers
from registry.errors import LorimerError

ADAPTERS = 16
INCOMPLETE = 3
TERMINATED = 143
BUSY = 0.7
"""Load average before a run beyond which its numbers are not to be trusted."""
WIDE = 200
"""Tables are not folded for readers that are programs."""


def names(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Reads a comma-separated choice."""

    def read(context: click.Context, option: click.Parameter, value: str) -> list[str]:
        chosen = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            raise click.BadParameter(
                f"{', '.join(unknown) or 'nothing'} is not among {', '.join(known)}", context, option
            )
        return chosen

    return read


@click.group(invoke_without_command=True)
@click.option(
    "--only",
    callback=names([OURS, *(peer.name for peer in PEERS)]),
    default=",".join(DEFAULT),
    show_default=True,
    help="Peers to measure beside us; `lorimer` alone means none. `llama-q4` is measured only when asked for.",
)
@click.option(
    "--cases", "groups", callback=names(GROUPS), default=",".join(GROUPS), show_default=True, help="What to measure."
)
@click.option("--quick", is_flag=True, help="A few minutes instead of twenty; to try things, not to quote.")
@click.pass_context
def bench(context: click.Context, only: list[str], groups: list[str], quick: bool) -> None:
    """Measure the engine beside its peers. A complete run is kept in benchmarks/results and in its README."""
    if context.invoked_subcommand is not None:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that what runs is ended too
    progress = Progress(Console(stderr=True, highlight=False))
    if load_average()[0] > BUSY:
        progress.say(
            f"other work runs on this machine (load average {load_average()[0]:.1f}): it will spoil the numbers"
        )
    materials = prepare(ADAPTERS, progress.say)
    run = Run(materials, groups, chosen_peers(only), quick=quick, progress=progress)
    results = run.everything()
    show(results)
    if not quick and set(groups) == set(GROUPS) and set(DEFAULT) <= set(only):
        results.write(LATEST)
        publish(results, LATEST)
    else:
        progress.say(f"a part of the table; kept in {run.path}")
    context.exit(exit_code(results))


@bench.command()
@click.argument("path", type=click.Path(path_type=Path), default=LATEST)
def report(path: Path) -> None:
    """Print results again, draw the plot and write the README's section from them."""
    results = Results.read(path)
    show(results)
    if path == LATEST:
        publish(results, path)


def show(results: Results) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    for line in details(results):
        console.print(line, markup=False, soft_wrap=True)
    for table in terminal_tables(results):
        console.print()
        console.print(table)


def publish(results: Results, path: Path) -> None:
    """The plot beside the results, and both in the README."""
    plot = draw(results, path.with_suffix(".svg"))
    rewrite_readme(results, f"results/{plot.name}")


def exit_code(results: Results) -> int:
    verdicts = {judgement.verdict for judgement in judge(results)}
    if "FAIL" in verdicts:
        return 1
    return INCOMPLETE if results.failures else 0


if __name__ == "__main__":
    try:
        bench(prog_name="python -m benchmarks")
    except LorimerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)

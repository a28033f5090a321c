"""`lorimer train` and `lorimer worker`. Arguments in, results out; the work is done elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from registry.errors import Refused
from registry.terminal import Terminal, command, table

if TYPE_CHECKING:
    from registry.adapters import Registry
    from serving.base import Base
    from serving.engine import Engine
    from trainer.candidate import Outcome
    from trainer.evidence import Metric

SPEC = click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def train() -> None:
    """Check data, train, gate and publish an adapter.

    \b
    A spec is TOML; the least one says who, what, and from which rows:
      [job]    name = "bbc-topic"   task = "classify"
      [data]   train = "bbc.jsonl"  instruction = "Name the topic of the text in one word."
    """


@train.command()
@SPEC
@command
def check(terminal: Terminal, /, spec: Path) -> None:
    """Read the spec and every row; say what would be trained on. Trains nothing.

    Fails on a bad key, a bad line (file, number and reason are named), rows that cannot be split, and rows without a
    supervised token.
    """
    from serving.base import load_base
    from trainer.candidate import check_base
    from trainer.dataset import load_splits
    from trainer.rendering import render_rows
    from trainer.spec import load_spec

    parsed = load_spec(spec)
    splits, verbaliser = load_splits(parsed.data, classify=parsed.job.task == "classify", seed=parsed.job.seed)
    base = load_base(terminal.settings, terminal.say)
    check_base(parsed, base)
    found = {name: render_rows(base, rows, parsed.train.max_len) for name, rows in splits.items()}
    report = {
        name: {
            "rows": len(each.rows),
            "too_long": each.num_too_long,
            "tokens": sum(len(row) for row in each.rows),
            "supervised": sum(len(row.supervised) for row in each.rows),
        }
        for name, each in found.items()
    }
    labels = sorted(verbaliser.words) if verbaliser else []
    shown = table(("split", "rows", "too long", "tokens", "supervised"), [(n, *r.values()) for n, r in report.items()])
    terminal.result({"splits": report, "dropped": dict(splits.dropped), "labels": labels}, shown)
    for why, count in splits.dropped.items():
        terminal.say(f"dropped {count} rows: {why}")


@train.command()
@SPEC
@command
def run(terminal: Terminal, /, spec: Path) -> None:
    """Train, evaluate beside base and parent, judge, and publish if the gates hold; exit 5 if they do not.

    Killed or stopped, the same command goes on from the last checkpoint.
    """
    from trainer.run import train as train_spec
    from trainer.spec import load_spec

    parsed = load_spec(spec)
    with _workshop(terminal) as shop:
        outcome = train_spec(
            parsed, shop.registry, shop.base, shop.engine, shop.bar, home=shop.home, stop=shop.stopped.is_set
        )
    _tell(terminal, outcome)


@train.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@command
def resume(terminal: Terminal, /, directory: Path) -> None:
    """Go on with the run in DIRECTORY; its spec and rows are taken from there."""
    from trainer.run import read_spec
    from trainer.run import resume as go_on

    read_spec(directory / "spec.json")
    with _workshop(terminal) as shop:
        outcome = go_on(directory, shop.registry, shop.base, shop.engine, shop.bar, stop=shop.stopped.is_set)
    _tell(terminal, outcome)


@train.command()
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--spec", type=click.Path(path_type=Path, dir_okay=False), help="Judge by this spec's gates instead.")
@command
def gate(terminal: Terminal, /, evidence: Path, spec: Path | None) -> None:
    """Judge EVIDENCE (evidence.json, or the directory it is in) again; exit 5 if it fails. Changes nothing."""
    from trainer.evidence import read_evidence
    from trainer.gate import judge
    from trainer.run import gates_of
    from trainer.spec import Spec, load_spec

    bundle = read_evidence(evidence)
    wanted = load_spec(spec) if spec is not None else msgspec.convert(bundle.spec, Spec)
    verdict = judge(bundle.measured, gates_of(wanted))
    terminal.result(msgspec.to_builtins(verdict), "\n".join(verdict.reasons))
    if not verdict.passed:
        raise SystemExit(Refused.exit_code)


@click.command()
@click.option("--once", is_flag=True, help="Work on the jobs that wait, then leave.")
@command
def worker(terminal: Terminal, /, once: bool) -> None:
    """Claim jobs of retraining and fine-tuning, and train. SIGTERM checkpoints the one in hand for whoever is next."""
    from trainer.worker import Worker

    with _workshop(terminal) as shop:
        hand = Worker(shop.registry, shop.base, shop.engine, terminal.settings)
        terminal.say(f"worker {hand.name} looks for jobs in {terminal.settings.store}")
        if not once:
            hand.run(shop.stopped)
            return
        done = []
        while (job := hand.work_once(shop.stopped)) is not None:
            done.append({"key": job.key, "state": job.state, "result": job.result, "error": job.error})
            terminal.say(f"job {job.key[:16]} {job.state} {job.error}".rstrip())
    terminal.result(done)


@dataclass(frozen=True, eq=False)
class Workshop:
    registry: Registry
    base: Base
    engine: Engine
    home: Path
    bar: Progress
    stopped: threading.Event


@contextmanager
def _workshop(terminal: Terminal) -> Iterator[Workshop]:
    """Registry, base and engine, opened for one command. The first SIGTERM or Ctrl-C asks politely."""
    from registry.adapters import open_registry
    from serving.base import load_base
    from serving.engine import Engine

    settings = terminal.settings
    registry = open_registry(settings)
    base = load_base(settings, terminal.say)
    engine = Engine.from_settings(base, settings)
    stopped = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _told_by_signal(stopped), Progress(*columns, console=terminal.err, disable=terminal.as_json) as bar:
        try:
            yield Workshop(registry, base, engine, settings.cache_path(), bar, stopped)
        finally:
            engine.close()


@contextmanager
def _told_by_signal(stopped: threading.Event) -> Iterator[None]:
    def stop(number: int, _: FrameType | None) -> None:
        stopped.set()
        signal.signal(number, signal.SIG_DFL)  # the second one is not asked politely

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(terminal: Terminal, outcome: Outcome) -> None:
    """What was measured, the verdict, and what was published; exit 5 where the gates said no."""
    measured, version = outcome.evidence.measured, outcome.version
    roles = {"base": measured.base, "parent": measured.parent, "candidate": measured.candidate}
    rows = [(name, *(_shown((metrics or {}).get(name)) for metrics in roles.values())) for name in measured.candidate]
    value = {
        "version": version.number if version else None,
        "digest": version.digest if version else None,
        "passed": outcome.verdict.passed,
        "reasons": outcome.verdict.reasons,
        "measured": msgspec.to_builtins(measured),
        "directory": None if version else str(outcome.directory),
    }
    terminal.result(value, table(("metric", *roles), rows))
    for reason in outcome.verdict.reasons:
        terminal.say(reason)
    if version is None:
        terminal.say(f"not published; files and evidence are in {outcome.directory}")
        raise SystemExit(Refused.exit_code)
    terminal.say(f"published {version.name} {version.digest}")


def _shown(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "-"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}] n={metric.n}"

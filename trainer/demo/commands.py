"""`lorimer demo`: settings for one telling, and its closing document."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from registry.terminal import Terminal, command


@click.command()
@click.option("--port", type=int, default=0, help="Port of the demo's gateway; 0 takes a free one.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".demo",
    show_default=True,
    help="Where the specs and data files of this run are written.",
)
@command
def demo(terminal: Terminal, /, directory: Path, **_: object) -> None:
    """The main job, start to end, narrated, on a real model and real text.

    Trains three adapters, serves them and the bare base from shared batches, promotes and rolls back under
    traffic, lets one adapter's traffic drift, and retrains it. Every claim is checked; exit code 0 means that
    all of them held. A few minutes on two cores. Each run is a tenant of its own in the store.
    """
    from trainer.demo.narrator import Narrator
    from trainer.demo.story import Story

    settings = terminal.settings
    if settings.tenant == type(settings)().tenant:
        settings = msgspec.structs.replace(settings, tenant=time.strftime("demo-%Y%m%d-%H%M%S", time.gmtime()))
    narrator = Narrator(terminal)
    summary = Story(settings, narrator, (directory / settings.tenant).absolute()).tell()
    terminal.result(
        summary, f"demo passed: {len(narrator.claims)} claims checked in {sum(narrator.seconds.values()):.0f} s"
    )

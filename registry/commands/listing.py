"""`lorimer registry list | index`: what there is, and what makes it quick to say. Decides nothing itself."""

from __future__ import annotations

import click
import msgspec

from registry.adapters import open_registry
from registry.summary import AdapterSummary, Bound, Filter
from registry.terminal import Terminal, command, key_value, progress_bar, table, when


@click.command("list")
@click.argument("name", default="")
@click.option("--alias", default="", help="Only adapters that have this alias.")
@click.option("--base-id", default="", metavar="GLOB", help="Only for this base.")
@click.option("--method", default="", help="Only this method: lora, dora, ia3, ...")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only with this tag; repeatable.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="METRIC>=X", help="Only within this bound; may be repeated."
)
@command
def list_adapters(
    terminal: Terminal,
    *,
    name: str,
    alias: str,
    base_id: str,
    method: str,
    tags: tuple[str, ...],
    metrics: tuple[str, ...],
) -> None:
    """Every adapter with its newest version and aliases; or those whose name matches NAME, a glob.

    Base, method, tags and metrics are those of the newest version. What was committed before the
    list began is in it, however many adapters there are.

    \b
    lorimer registry list 'support-*' --alias prod --tag language=de --metric 'accuracy>=0.9'
    """
    wanted = Filter(
        name=name,
        base=base_id,
        method=method,
        alias=alias,
        tags=dict(key_value(tag) for tag in tags),
        metrics=tuple(Bound.parse(metric) for metric in metrics),
    )
    summaries = open_registry(terminal.settings).list(wanted)
    if terminal.as_json:
        terminal.result(msgspec.to_builtins(summaries))
        return
    names = ["adapter", "latest", "versions", "aliases", "base", "method", *(bound.metric for bound in wanted.metrics)]
    rows = [(*_cells(row, wanted), when(row.updated_at)) for row in summaries]
    nothing = "no adapters yet" if wanted == Filter() else "no adapter is like that"
    terminal.result(None, table([*names, "changed"], rows) if rows else nothing)


@click.command()
@click.option("--rebuild", is_flag=True, help="Read every log again, and believe nothing that the index says.")
@command
def index(terminal: Terminal, rebuild: bool) -> None:
    """Bring the index behind `list` up to date. Listing does it by itself when it is worth it.

    With --rebuild after a restore from a backup, or when an object of the index is damaged.
    """
    catalog = open_registry(terminal.settings).catalog
    if not rebuild:
        num_changed = catalog.compact()
        terminal.result({"changed": num_changed}, f"{num_changed} adapters had changed")
        return
    with progress_bar(terminal, "reading logs", count=True) as progress:
        num_adapters = catalog.rebuild(progress)
    terminal.result({"adapters": num_adapters}, f"the index holds {num_adapters} adapters")


def _cells(row: AdapterSummary, wanted: Filter) -> tuple[object, ...]:
    return (
        row.adapter,
        f"v{row.latest}" if row.latest else "-",
        row.num_versions,
        ", ".join(f"{alias}=v{number}" for alias, number in row.aliases.items()),
        row.base,
        row.method,
        *(f"{row.metrics[bound.metric]:.6g}" for bound in wanted.metrics),
    )

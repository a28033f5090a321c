"""`lorimer registry show | log | delete | verify`: one version, or one history. Decides nothing itself."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from registry.adapters import open_registry
from registry.ops import describe
from registry.terminal import Terminal, command, progress_bar, table, when
from registry.versions import Version


@click.command()
@click.argument("ref")
@command
def show(terminal: Terminal, ref: str) -> None:
    """What a version is: files, base, data, metrics, parent, aliases and the adapter's policy."""
    opened = open_registry(terminal.settings)
    version = opened.show(ref)
    state = opened.state(version.adapter)
    aliases = state.aliases_of(version.digest)
    manifest = version.manifest
    rows: list[tuple[str, object]] = [
        ("version", version.name),
        ("digest", version.digest),
        ("published", when(version.published_at)),
        ("aliases", ", ".join(aliases) or "-"),
        ("base", f"{manifest.base.id} ({manifest.base.weights_sha256[:12]})"),
        ("method", manifest.in_words),
        ("parent", f"{manifest.parent.adapter} {manifest.parent.digest}" if manifest.parent else "-"),
        ("dataset", f"{manifest.dataset.uri} ({manifest.dataset.rows} rows)" if manifest.dataset else "-"),
        *((f"metric {key}", f"{value:.6g}") for key, value in sorted(manifest.metrics.items())),
        *((f"tag {key}", value) for key, value in sorted(manifest.tags.items())),
        *((f"policy {key}", value) for key, value in sorted(state.policy.items())),
        *((f"file {entry.path}", f"{entry.size} bytes {entry.sha256[:12]}") for entry in manifest.files),
    ]
    record = version_record(version) | {"aliases": aliases, "policy": state.policy}
    terminal.result(record, table(["", ""], rows))


@click.command("log")
@click.argument("name")
@click.option("--last", type=click.IntRange(min=1), default=50, show_default=True, help="Only this many events.")
@command
def show_log(terminal: Terminal, name: str, last: int) -> None:
    """Who did what to an adapter, and when; the hash chain is checked on the way."""
    events = open_registry(terminal.settings).log(name)[-last:]
    rows = [(event.n, when(event.time), event.actor, describe(event.ops)) for event in events]
    terminal.result(msgspec.to_builtins(events), table(["n", "time", "actor", "event"], rows))


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def delete(terminal: Terminal, name: str, version: str, reason: str) -> None:
    """Make VERSION (v2 or a digest) of NAME unreachable. Refused while an alias or a child needs it."""
    deleted = open_registry(terminal.settings).delete(name, version, reason)
    terminal.result({"deleted": deleted.name, "digest": deleted.digest}, f"deleted {deleted.name}")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@command
def verify(terminal: Terminal, names: tuple[str, ...]) -> None:
    """Read and hash everything again (all adapters, or those named); the first damaged object is named."""
    opened = open_registry(terminal.settings)
    reports = []
    for name in names or [summary.adapter for summary in opened.list()]:
        with progress_bar(terminal, f"verifying {name}") as progress:
            reports.append(opened.verify(name, progress))
    rows = [(r.adapter, r.num_events, r.num_versions, r.num_blobs, r.num_bytes, r.head[:12]) for r in reports]
    drawn = table(["adapter", "events", "versions", "blobs", "bytes", "head"], rows)
    terminal.result(msgspec.to_builtins(reports), drawn if rows else "no adapters yet")


def version_record(version: Version) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(version)
    return record

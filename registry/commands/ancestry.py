"""A lineage, drawn for people."""

from __future__ import annotations

from rich.table import Table

from registry.lineage import Ancestor, Holding, Lineage
from registry.terminal import table, when


def lineage_table(lineage: Lineage) -> Table:
    """From where a version comes to where it has been, a line each."""
    version, manifest = lineage.version, lineage.version.manifest
    dataset = manifest.dataset
    counts = ", ".join(f"{count} {name}" for name, count in dataset.counts.items()) if dataset else ""
    rows: list[tuple[str, object]] = [
        ("version", f"{version.name} {version.digest}"),
        ("published", f"{when(version.published_at)} by {lineage.published_by}"),
        ("data", f"{dataset.uri} {dataset.sha256[:12]}, {dataset.rows} rows {counts}".strip() if dataset else "-"),
        ("trigger", manifest.trigger or "-"),
        ("evaluation", ", ".join(f"{key} {value:.6g}" for key, value in sorted(manifest.metrics.items())) or "-"),
        ("evidence", manifest.evidence or "-"),
        *((f"review by {each.actor}", f"{each.verdict} {each.note}") for each in lineage.reviews),
        *(("made from", _ancestor(parent)) for parent in lineage.parents),
        *(("parent of", child) for child in lineage.children),
        *(("served as", _holding(holding)) for holding in lineage.holdings),
    ]
    if lineage.quarantined is not None:
        rows.append(("quarantined", lineage.quarantined or "no reason given"))
    if (end := lineage.deleted) is not None:
        rows.append(("deleted", f"{when(end.time)} by {end.actor}{_why(end.reason)}"))
    return table(["", ""], rows)


def _ancestor(ancestor: Ancestor) -> str:
    if ancestor.number is None:
        return f"{ancestor.adapter} {ancestor.digest}, of which this registry knows nothing"
    data = f", data {ancestor.dataset.uri}" if ancestor.dataset else ""
    trigger = f", trigger {ancestor.trigger}" if ancestor.trigger else ""
    gone = ", deleted" if ancestor.deleted else ""
    return f"{ancestor.adapter}@v{ancestor.number} {ancestor.digest[:19]}{data}{trigger}{gone}"


def _holding(holding: Holding) -> str:
    share = "" if holding.weight == 1.0 else f" {100 * holding.weight:.3g}%"
    until = "now" if holding.until is None else when(holding.until)
    return f"{holding.alias}{share} from {when(holding.since)} to {until}, by {holding.actor}{_why(holding.reason)}"


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""

"""`lorimer registry show | log | delete | quarantine | verify`: one version, or one history. Decides nothing itself."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from registry.adapters import open_registry
from registry.commands.ancestry import lineage_table
from registry.lineage import trace
from registry.names import parse_ref
from registry.neighbours import readers
from registry.ops import describe
from registry.pins import Pins, holders
from registry.rules import signed_by
from registry.terminal import Terminal, command, progress_bar, table, when
from registry.times import moment
from registry.versions import AdapterState, Version


@click.command()
@click.argument("ref")
@click.option("--at", metavar="TIME", help="As it was then: 2026-11-23T09:30Z, or seconds since 1970.")
@click.option("--lineage", is_flag=True, help="Where it comes from, and every alias it ever had.")
@command
def show(terminal: Terminal, *, ref: str, at: str | None, lineage: bool) -> None:
    """What a version is: files, base, data, metrics, parent, aliases and the adapter's policy.

    With --lineage REF may be a digest alone, and the version may be deleted.

    \b
    lorimer registry show support --at 2026-11-23T09:30Z      what was prod then
    lorimer registry show sha256:1f2e3d --lineage
    """
    opened = open_registry(terminal.settings)
    if lineage:
        if at is not None:
            raise click.UsageError("--lineage tells of all times; leave out --at")
        traced = trace(opened, ref)
        terminal.result(msgspec.to_builtins(traced), lineage_table(traced))
        return
    time = None if at is None else moment(at)
    version = opened.show(ref) if time is None else opened.resolve(ref, at=time)
    state = opened.reach(parse_ref(ref), at=time)
    standing = {alias: state.standing(alias)[version.digest] for alias in state.aliases_of(version.digest)}
    record = version_record(version) | {
        "aliases": [*standing],
        "weights": standing,
        "shared_with": readers(state, version.digest),
        "policy": state.policy,
        "quarantined": state.quarantined.get(version.digest),
        "violations": msgspec.to_builtins(state.violations),
    }
    terminal.result(record, table(["", ""], _rows(version, state, standing)))


@click.command("log")
@click.argument("name")
@click.option("--last", type=click.IntRange(min=1), default=50, show_default=True, help="Only this many events.")
@command
def show_log(terminal: Terminal, name: str, last: int) -> None:
    """Who did what to an adapter, and when; the hash chain is checked on the way.

    What broke the rules of its time changed nothing, and is marked VOID.
    """
    opened = open_registry(terminal.settings)
    events = opened.log(name)[-last:]
    state = opened.adapter_log(name).fold()  # whoever is to vouch for a log must be able to read it before
    void = {violation.n: violation.rule for violation in state.violations}
    rows = [
        (
            each.n,
            when(each.time),
            each.actor,
            signed_by(state.rules, each.signers or ()) or "-",
            (f"VOID ({void[each.n]}): " if each.n in void else "") + describe(each.ops),
        )
        for each in events
    ]
    records = [msgspec.to_builtins(each) | {"void": void.get(each.n)} for each in events]
    terminal.result(records, table(["n", "time", "actor", "signed by", "event"], rows))


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def delete(terminal: Terminal, name: str, version: str, reason: str) -> None:
    """Make VERSION (v2 or a digest) of NAME unreachable. Refused while an alias or a child needs it.

    Its bytes stay until `lorimer registry gc` collects them: after a grace, and when no gateway
    reads them any more.
    """
    opened = open_registry(terminal.settings)
    deleted = opened.delete(name, version, reason)
    readers = holders(Pins(opened.store, opened.tenant, opened.clock).standing(), name, deleted.digest)
    still = f"; {', '.join(readers)} may still read it" if readers else ""
    record = {"deleted": deleted.name, "digest": deleted.digest, "held_by": readers}
    terminal.result(record, f"deleted {deleted.name}{still}; `lorimer registry gc` frees its bytes")


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--reason", default="", help="Recorded in the log, and told to whoever asks for the version.")
@click.option("--lift", is_flag=True, help="Serve it again.")
@command
def quarantine(terminal: Terminal, *, name: str, version: str, reason: str, lift: bool) -> None:
    """Serve VERSION of NAME to nobody who does not name its whole digest. Recorded in the log.

    No alias can be moved to it, and a rollback passes it over. Aliases that stand at it are refused
    until they are rolled back.
    """
    opened = open_registry(terminal.settings)
    found = opened.quarantine(name, version, reason, lift=lift)
    stuck = [] if lift else opened.state(name).aliases_of(found.digest)
    text = f"{found.name} is {'served again' if lift else 'quarantined'}"
    if stuck:
        text += f"; {', '.join(stuck)} is refused now: `lorimer registry rollback {name} --alias {stuck[0]}`"
    terminal.result({"version": found.name, "digest": found.digest, "lifted": lift, "refused": stuck}, text)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@command
def verify(terminal: Terminal, names: tuple[str, ...]) -> None:
    """Read and hash everything again (all adapters, or those named); the first damaged object is named.

    Signatures are checked too. Events that broke the rules of their time are told; they changed nothing.
    """
    opened = open_registry(terminal.settings)
    reports = []
    for name in names or [summary.adapter for summary in opened.list()]:
        with progress_bar(terminal, f"verifying {name}") as progress:
            reports.append(opened.verify(name, progress))
    rows = [
        (r.adapter, r.num_events, len(r.violations), r.num_versions, r.num_blobs, r.num_bytes, r.head[:12])
        for r in reports
    ]
    drawn = table(["adapter", "events", "void", "versions", "blobs", "bytes", "head"], rows)
    terminal.result(msgspec.to_builtins(reports), drawn if rows else "no adapters yet")
    for report in reports:
        for each in report.violations:
            terminal.say(f"{report.adapter}: event {each.n} of {each.actor} is void: {each.rule}")


def version_record(version: Version) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(version)
    return record


def _rows(version: Version, state: AdapterState, standing: dict[str, float]) -> list[tuple[str, object]]:
    manifest = version.manifest
    aliases = (alias if weight == 1.0 else f"{alias} ({100 * weight:.3g}%)" for alias, weight in standing.items())
    return [
        ("version", version.name),
        ("digest", version.digest),
        ("published", when(version.published_at)),
        *((("signed by", signed_by(state.rules, version.signers)),) if version.signers else ()),
        ("aliases", ", ".join(aliases) or "-"),
        *((("quarantined", state.quarantined[version.digest]),) if version.digest in state.quarantined else ()),
        *((("shared with", ", ".join(shared)),) if (shared := readers(state, version.digest)) else ()),
        ("base", f"{manifest.base.id} ({manifest.base.weights_sha256[:12]})"),
        ("method", manifest.in_words),
        ("parent", f"{manifest.parent.adapter} {manifest.parent.digest}" if manifest.parent else "-"),
        ("dataset", f"{manifest.dataset.uri} ({manifest.dataset.rows} rows)" if manifest.dataset else "-"),
        *((f"metric {key}", f"{value:.6g}") for key, value in sorted(manifest.metrics.items())),
        *((f"tag {key}", value) for key, value in sorted(manifest.tags.items())),
        *(
            (f"review by {signed_by(state.rules, each.signers) or each.actor}", f"{each.verdict} {each.note}")
            for each in state.reviews.get(version.digest, ())
        ),
        *((f"policy {key}", value) for key, value in sorted(state.policy.items())),
        *((f"violation in event {each.n}", f"{each.actor}: {each.rule}") for each in state.violations),
        *((f"file {entry.path}", f"{entry.size} bytes {entry.sha256[:12]}") for entry in manifest.files),
    ]

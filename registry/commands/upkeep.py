"""`lorimer registry gc | retain`: what is kept, and for how long. Decides nothing itself."""

from __future__ import annotations

import click
import msgspec

from registry import changes
from registry.adapters import open_registry
from registry.gc import Report, collect
from registry.retention import Retention, read_retention
from registry.terminal import Terminal, command, progress_bar, table
from registry.times import seconds


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only say what would go, what would stay, and why.")
@click.option(
    "--grace", default="24h", show_default=True, metavar="DURATION", help="Keep what was deleted or begun since then."
)
@command
def gc(terminal: Terminal, *, names: tuple[str, ...], dry_run: bool, grace: str) -> None:
    """Delete the bytes that nothing needs (of all adapters, or those named).

    First each adapter's retention lets versions go. Then go the bytes of versions deleted longer
    than --grace ago that no gateway reads, and of uploads that never ended. Safe beside running
    publishers, whatever the grace: one that is too slow uploads again. At last the index behind
    `list` is brought up to date, and the notices it covers go.
    """
    opened = open_registry(terminal.settings)
    with progress_bar(terminal, "collecting", count=True) as progress:
        reports = collect(opened, names, grace_s=seconds(grace), dry_run=dry_run, progress=progress)
    rows = [
        (report.adapter, "goes" if finding.goes else "stays", finding.name, _size(finding.size), finding.why)
        for report in reports
        for finding in (*report.versions, *report.blobs)
    ]
    rows += [(report.adapter, "refused", "", "", report.refused) for report in reports if report.refused]
    terminal.result(
        msgspec.to_builtins(reports), table(["adapter", "", "what", "bytes", "why"], rows) if rows else "nothing to do"
    )
    terminal.say(_summary(reports, dry_run))
    if not dry_run:
        opened.catalog.tidy()


@click.command()
@click.argument("name")
@click.option("--last", type=click.IntRange(min=1), help="Keep this many of the newest versions.")
@click.option("--days", type=click.FloatRange(min=0), help="Keep what was published within so many days.")
@click.option("--aliased-days", type=click.FloatRange(min=0), help="Keep what an alias stood at within so many days.")
@click.option("--all", "everything", is_flag=True, help="Keep everything: let no version go any more.")
@command
def retain(
    terminal: Terminal,
    *,
    name: str,
    last: int | None,
    days: float | None,
    aliased_days: float | None,
    everything: bool,
) -> None:
    """Show which versions of NAME `gc` keeps, or decide it. A version stays if any of the rules keeps it.

    Always kept: what an alias stands at or would roll back to, what kept versions were made from,
    and what is quarantined.
    """
    opened = open_registry(terminal.settings)
    wanted = Retention(keep_last=last, keep_days=days, keep_aliased_days=aliased_days)
    if wanted and everything:
        raise click.UsageError("--all keeps everything; leave out the other rules")
    if wanted or everything:
        opened.commit(name, changes.set_retention(wanted))
    kept = read_retention(opened.state(name).policy)
    terminal.result(msgspec.to_builtins(kept), f"{name}: {kept}")


def _size(size: int | None) -> str:
    return "?" if size is None else str(size)


def _summary(reports: list[Report], dry_run: bool) -> str:
    goes = [finding for report in reports for finding in report.blobs if finding.goes]
    num_versions = sum(finding.goes for report in reports for finding in report.versions)
    known = sum(finding.size or 0 for finding in goes)
    verb = "would delete" if dry_run else "deleted"
    return f"{verb} {num_versions} versions, {len(goes)} blobs of {known} bytes or more"

"""`lorimer registry`: words around the façade. Decides nothing itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from registry import bases
from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.adapters import Registry, open_registry
from registry.doctor import Verdict, probe
from registry.errors import Invalid, NotFound, Refused
from registry.job_commands import jobs, when
from registry.policy import Policy, read_policy
from registry.store import open_store
from registry.terminal import Terminal, command, table
from registry.versions import Version, describe

__all__ = ["jobs", "registry"]


@click.group()
def registry() -> None:
    """Versions, aliases and history of adapters, in a directory or an S3 bucket.

    \b
    A reference is ADAPTER, ADAPTER@alias, ADAPTER@v3 or ADAPTER@sha256:1f2e3d.
    Without a selector it means the alias `prod`.
    \b
    lorimer registry init --store s3://models/lorimer
    lorimer registry push ./my-adapter support --alias prod
    lorimer registry rollback support
    """


@registry.command()
@click.option("--read-only", is_flag=True, help="Accept a store that fails the probe; nothing can be written later.")
@command
def init(terminal: Terminal, read_only: bool) -> None:
    """Probe the store and create a registry in it. Doing it again changes nothing."""
    store = open_store(terminal.settings.store, s3_endpoint=terminal.settings.s3_endpoint)
    marker = Registry(store, terminal.settings.tenant).init(read_only=read_only)
    mode = "read-only" if marker.read_only else "writable"
    terminal.result(msgspec.to_builtins(marker), f"{mode} registry at {store.url}")


@registry.command()
@click.argument("url", required=False)
@command
def doctor(terminal: Terminal, url: str | None) -> None:
    """Measure whether a store can hold a registry (URL, or the configured store).

    Creates a few small objects below doctor/ in the real bucket and prefix, races for them over
    separate connections, and removes them. Exits 5 when the store must not be used.
    """
    store = open_store(url or terminal.settings.store, s3_endpoint=terminal.settings.s3_endpoint)
    with _bar(terminal, "racing", count=True) as progress:
        verdict = probe(store, progress=progress)
    if not verdict.passed:
        if not terminal.as_json:
            terminal.result(None, _verdict_table(verdict))
        raise Refused(f"{verdict.url} cannot hold a writable registry: {'; '.join(verdict.failures)}")
    terminal.result(msgspec.to_builtins(verdict), _verdict_table(verdict))
    terminal.say(f"{verdict.url} can hold a registry")


@registry.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--alias", "aliases", multiple=True, help="Move this alias to the new version in the same step.")
@click.option("--base-id", help="Which registered base, when the adapter fits several.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Record a tag in the manifest.")
@click.option("--reason", default="", help="Recorded with the alias move.")
@command
def push(
    terminal: Terminal,
    *,
    directory: Path,
    name: str,
    aliases: tuple[str, ...],
    base_id: str | None,
    tags: tuple[str, ...],
    reason: str,
) -> None:
    """Publish the PEFT adapter in DIRECTORY as the next version of NAME.

    Checked first: plain files only, no pickles, tensors that fit the base, finite values. The same
    files pushed again are the same version. Nothing is visible until everything is stored.
    """
    opened = open_registry(terminal.settings)
    profile = None
    if base_id is not None:
        config_file = directory / CONFIG_FILE
        if not config_file.is_file():
            raise Refused(f"{directory} has no {CONFIG_FILE}")
        trained_on = read_adapter_config(config_file).base_model_name_or_path
        profile = bases.choose(opened.bases(), trained_on, base_id)
    with _bar(terminal, f"pushing {name}") as progress:
        version = opened.publish(
            name,
            directory,
            profile=profile,
            tags=dict(_tag(tag) for tag in tags),
            aliases=dict.fromkeys(aliases, msgspec.UNSET),
            reason=reason,
            progress=progress,
        )
    also = f", now {', '.join(aliases)}" if aliases else ""
    terminal.result(_version_record(version), f"{version.name} {version.digest}{also}")


@registry.command()
@click.argument("ref")
@click.argument("directory", type=click.Path(path_type=Path))
@command
def pull(terminal: Terminal, ref: str, directory: Path) -> None:
    """Fetch a version into a new DIRECTORY, every file checked against the manifest."""
    with _bar(terminal, f"pulling {ref}") as progress:
        version = open_registry(terminal.settings).pull(ref, directory, progress)
    terminal.result(_version_record(version), f"{version.name} -> {directory}")


@registry.command("list")
@command
def list_adapters(terminal: Terminal) -> None:
    """Every adapter with its newest version and aliases."""
    summaries = open_registry(terminal.settings).list()
    rows = [
        (
            summary.adapter,
            f"v{summary.latest}" if summary.latest else "-",
            summary.num_versions,
            ", ".join(f"{alias}=v{number}" for alias, number in summary.aliases.items()),
            summary.base,
            when(summary.updated_at),
        )
        for summary in summaries
    ]
    drawn = table(["adapter", "latest", "versions", "aliases", "base", "changed"], rows)
    terminal.result(msgspec.to_builtins(summaries), drawn if rows else "no adapters yet")


@registry.command()
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
    record = _version_record(version) | {"aliases": aliases, "policy": state.policy}
    terminal.result(record, table(["", ""], rows))


@registry.command("log")
@click.argument("name")
@click.option("--last", type=click.IntRange(min=1), default=50, show_default=True, help="Only this many events.")
@command
def show_log(terminal: Terminal, name: str, last: int) -> None:
    """Who did what to an adapter, and when; the hash chain is checked on the way."""
    events = open_registry(terminal.settings).log(name)[-last:]
    rows = [(event.n, when(event.time), event.actor, describe(event.ops)) for event in events]
    terminal.result(msgspec.to_builtins(events), table(["n", "time", "actor", "event"], rows))


@registry.command()
@click.argument("name")
@click.argument("alias")
@click.argument("target")
@click.option("--expect", help="Move only if the alias stands here now (v2 or a digest; `none`: not set).")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def alias(terminal: Terminal, *, name: str, alias: str, target: str, expect: str | None, reason: str) -> None:
    """Point ALIAS of adapter NAME to TARGET: v2, a digest, another alias, or `none` to remove it.

    Exits 4 and says where the alias stands when --expect does not hold.
    """
    opened = open_registry(terminal.settings)
    expected = msgspec.UNSET if expect is None else None if expect == "none" else expect
    event = opened.alias(name, alias, None if target == "none" else target, expect=expected, reason=reason)
    terminal.result(msgspec.to_builtins(event), f"{name}@{alias} -> {target} (event {event.n})")


@registry.command()
@click.argument("name")
@click.option("--alias", default="prod", show_default=True, help="Which alias.")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def rollback(terminal: Terminal, name: str, alias: str, reason: str) -> None:
    """Put an alias back to where it stood before, as the log tells it. Again: one further back."""
    version = open_registry(terminal.settings).rollback(name, alias, reason)
    terminal.result(_version_record(version), f"{name}@{alias} -> {version.name} {version.digest}")


@registry.command()
@click.argument("name")
@click.argument("version")
@click.option("--reason", default="", help="Recorded in the log.")
@command
def delete(terminal: Terminal, name: str, version: str, reason: str) -> None:
    """Make VERSION (v2 or a digest) of NAME unreachable. Refused while an alias or a child needs it."""
    deleted = open_registry(terminal.settings).delete(name, version, reason)
    terminal.result({"deleted": deleted.name, "digest": deleted.digest}, f"deleted {deleted.name}")


@registry.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@command
def verify(terminal: Terminal, names: tuple[str, ...]) -> None:
    """Read and hash everything again (all adapters, or those named); the first damaged object is named."""
    opened = open_registry(terminal.settings)
    reports = []
    for name in names or [summary.adapter for summary in opened.list()]:
        with _bar(terminal, f"verifying {name}") as progress:
            reports.append(opened.verify(name, progress))
    rows = [(r.adapter, r.num_events, r.num_versions, r.num_blobs, r.num_bytes, r.head[:12]) for r in reports]
    drawn = table(["adapter", "events", "versions", "blobs", "bytes", "head"], rows)
    terminal.result(msgspec.to_builtins(reports), drawn if rows else "no adapters yet")


@registry.command()
@click.argument("name")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@command
def policy(terminal: Terminal, name: str, changes: tuple[str, ...]) -> None:
    """Show an adapter's capture and retraining policy, or change it.

    \b
    lorimer registry policy support capture=true retrain=auto min_examples=32
    """
    opened = open_registry(terminal.settings)
    try:
        current = opened.policy(name)
    except NotFound:
        if not changes:
            raise
        current = Policy()
    if changes:
        current = read_policy(msgspec.to_builtins(current) | dict(_change(change) for change in changes))
        opened.set_policy(name, current)
    values = msgspec.to_builtins(current)
    terminal.result(values, table(["policy", ""], sorted(values.items())))


@contextmanager
def _bar(terminal: Terminal, title: str, *, count: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that goes away when done; silent under --json and where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn() if count else DownloadColumn())
    hidden = terminal.as_json or not terminal.err.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=terminal.err, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _verdict_table(verdict: Verdict) -> Any:
    words = {True: "ok", False: "FAILED", None: "-"}
    return table(["check", "", "found"], [(check.name, words[check.passed], check.detail) for check in verdict.checks])


def _version_record(version: Version) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(version)
    return record


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Invalid(f"--tag {text!r} is not KEY=VALUE", param="tag")
    return key, value


def _change(text: str) -> tuple[str, Any]:
    key, value = _tag(text)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value

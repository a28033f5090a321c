"""`lorimer captures`: words around what gateways kept of requests and feedback. Decides nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from registry.adapters import Registry, open_registry
from registry.audit import AuditLog
from registry.captures import Captured, read_captures
from registry.captures.erasures import Erasures
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.remains import Forgotten, forget
from registry.captures.rows import training_row
from registry.captures.upkeep import expire as take_out_expired
from registry.terminal import Terminal, command, table, when
from registry.times import moment

SHOWN = 60
"""Characters of a text in a table."""
SINCE = "Only requests from this moment on: 2026-11-23T09:30Z, or seconds."


@click.group()
def captures() -> None:
    """What gateways kept of requests, answers and feedback, where an adapter's policy says so.

    \b
    lorimer registry policy support capture=true capture_days=30 redact=email,phone
    lorimer captures list support
    lorimer captures forget --user ada
    """


@captures.command("list")
@click.argument("adapter", required=False)
@click.option("--user", help="Only what this user asked: the id that requests carry, or - to read it from stdin.")
@click.option("--session", help="Only one session, as x-session-id named it.")
@click.option("--since", default="0", help=SINCE)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@command
def list_captures(
    terminal: Terminal, *, adapter: str | None, user: str | None, session: str | None, since: str, limit: int
) -> None:
    """What was captured, oldest first; of one adapter, or of all."""
    opened = open_registry(terminal.settings)
    found = _found(opened, adapter, user, session, since)[-limit:]
    rows = [
        (when(each.time), each.adapter, each.request_id, _verdict(each), _short(_asked(each)), _short(each.response))
        for each in found
    ]
    drawn = table(["when", "adapter", "request", "feedback", "asked", "answered"], rows)
    terminal.result(msgspec.to_builtins(found), drawn if rows else "nothing captured")


@captures.command()
@click.argument("adapter")
@click.option("--rows", is_flag=True, help="As rows to train on: corrected answers, and those rated up.")
@click.option("--user", help="Only what this user asked, or - to read the id from stdin.")
@click.option("--since", default="0", help=SINCE)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file; without it, stdout.")
@command
def export(terminal: Terminal, *, adapter: str, rows: bool, user: str | None, since: str, output: Path | None) -> None:
    """Write an adapter's captures as JSON lines, oldest first.

    \b
    lorimer captures export support --rows --output corrected.jsonl
    """
    found = _found(open_registry(terminal.settings), adapter, user, None, since)
    documents: Sequence[object] = found
    if rows:
        documents = [row for each in found if (row := training_row(each)) is not None]
    lines = b"".join(msgspec.json.encode(document) + b"\n" for document in documents)
    if output is None:
        sys.stdout.buffer.write(lines)
        return
    output.write_bytes(lines)
    terminal.result({"path": str(output), "lines": len(documents)}, f"{len(documents)} lines in {output}")


@captures.command("forget")
@click.option("--user", required=True, help="The id that requests carry as `user`, or - to read it from stdin.")
@click.option("--reason", default="", help="Kept with the erasure; do not name the user in it.")
@command
def forget_user(terminal: Terminal, *, user: str, reason: str) -> None:
    """Take out everything a user gave until now, of every adapter, for good; and say what remains elsewhere.

    Stopped on the way, do it again. What gateways still hold is taken out when they write it.
    """
    opened = open_registry(terminal.settings)
    user = _from_stdin(user)
    _audit(opened, "captures.forget", {"person": Pseudonyms(opened.store, opened.tenant).of(user), "reason": reason})
    done = forget(opened, user, actor=opened.actor, reason=reason)
    terminal.result(msgspec.to_builtins(done), _told(done))


@captures.command()
@click.option("--adapter", help="Only this adapter, and with --days whatever its policy says.")
@click.option("--days", type=click.FloatRange(0), help="Take out what is older than so many days.")
@command
def expire(terminal: Terminal, *, adapter: str | None, days: float | None) -> None:
    """Take out what is older than its adapter's policy keeps it (`capture_days`). Gateways do it by themselves."""
    opened = open_registry(terminal.settings)
    _audit(opened, "captures.expire", {"adapter": adapter, "days": days})
    expired = take_out_expired(opened, adapter, days)
    text = f"{expired.requests} requests and {expired.feedback} feedback records taken out of {expired.objects} objects"
    terminal.result(msgspec.to_builtins(expired), text)


@captures.command()
@command
def erasures(terminal: Terminal) -> None:
    """Who was forgotten, under pseudonyms, oldest first: when, and whether it is finished."""
    opened = open_registry(terminal.settings)
    known = Erasures(opened.store, opened.tenant, opened.clock)
    found = [
        {"erasure": each.id, "person": each.person, "time": each.time, "done": each.is_done,
         "counts": msgspec.to_builtins(known.counts(each))}
        for each in known.standing()
    ]  # fmt: skip
    rows = [
        (when(each["time"]), each["person"], "done" if each["done"] else "not finished: forget again", *_counts(each))
        for each in found
    ]
    drawn = table(["when", "person", "state", "requests", "feedback"], rows)
    terminal.result(found, drawn if rows else "nobody was forgotten")


def _found(opened: Registry, adapter: str | None, user: str | None, session: str | None, since: str) -> list[Captured]:
    named = Pseudonyms(opened.store, opened.tenant).of
    found = read_captures(opened.store, opened.tenant, adapter, moment(since))
    if user is not None:
        person = named(_from_stdin(user))
        found = [each for each in found if person in each.users]
    if session is not None:
        found = [each for each in found if each.session in (session, named(session))]
    return found


def _audit(opened: Registry, action: str, what: dict[str, Any]) -> None:
    AuditLog(opened.store, opened.tenant, opened.actor, opened.clock).record(opened.actor, action, what)


def _from_stdin(user: str) -> str:
    """Ids on the command line are seen by others on the machine, and kept in histories."""
    return sys.stdin.read().removesuffix("\n") if user == "-" else user


def _told(done: Forgotten) -> str:
    lines = [
        f"{done.requests} requests and {done.feedback} feedback records taken out of {done.objects} objects",
        *(f"remains: {each.rows} rows of {each.dataset}, which {', '.join(each.versions)} were trained on"
          for each in done.remains),
    ]  # fmt: skip
    if done.remains:
        lines.append("publish versions made without them, then delete these versions and their datasets")
    return "\n".join(lines)


def _counts(erasure: dict[str, Any]) -> tuple[object, object]:
    counts = erasure["counts"] or {}
    return counts.get("requests", "-"), counts.get("feedback", "-")


def _verdict(captured: Captured) -> str:
    rating = {1: "up", -1: "down"}.get(captured.rating or 0, "")
    return " ".join(word for word in (rating, "corrected" if captured.correction is not None else "") if word) or "-"


def _asked(captured: Captured) -> str:
    if captured.prompt is not None:
        return captured.prompt
    texts = [each["content"] for each in captured.messages if isinstance(each.get("content"), str)]
    return texts[-1] if texts else ""


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else f"{flat[: SHOWN - 1]}…"

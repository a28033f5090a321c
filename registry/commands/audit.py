"""`lorimer audit`: words around a tenant's audit log. Decides nothing itself."""

from __future__ import annotations

import json

import click
import msgspec

from registry.adapters import open_registry
from registry.audit import AuditLog, Record
from registry.terminal import Terminal, command, table, when
from registry.times import moment


@click.command()
@click.option("--limit", type=int, default=100, show_default=True, help="Most records to show.")
@click.option("--since", default="0", help="Only records from this moment on: 2026-11-23T09:30Z, or seconds.")
@click.option("--action", default="", help="Only this action, such as alias.move.")
@click.option("--actor", default="", help="Only what this principal did, such as key:9f2c41d0.")
@click.option("--verify", is_flag=True, help="Read every record from the first, and prove that none was altered.")
@command
def audit(terminal: Terminal, *, limit: int, since: str, action: str, actor: str, verify: bool) -> None:
    """What was changed through the tenant's gateways, by whom and when, newest first.

    \b
    lorimer audit --since 2026-11-23 --action alias.move
    lorimer audit --verify
    """
    opened = open_registry(terminal.settings)
    log = AuditLog(opened.store, opened.tenant, opened.actor, opened.clock)
    if verify:
        end = log.verify()
        value = {"events": end.n, "actions": end.state, "head": end.head}
        terminal.result(value, f"{end.state} actions, none altered; the newest event's sha256 is {end.head}")
        return
    found = log.newest(limit, since=moment(since), action=action, actor=actor)
    drawn = table(["when", "who", "action", "what", "request", "outcome"], [_row(record) for record in found])
    terminal.result(msgspec.to_builtins(found), drawn if found else "nothing on record")


def _row(record: Record) -> tuple[str, ...]:
    what = " ".join(f"{key}={_plain(value)}" for key, value in record.what.items() if value not in ("", None))
    outcome = f"failed: {record.error}" if record.error else "done"
    return when(record.time), record.actor, record.action, what, record.request_id or "-", outcome


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)

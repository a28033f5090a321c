"""`lorimer keys`: words around the log of API keys. Decides nothing itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from registry.adapters import Registry, open_registry
from registry.audit import AuditLog
from registry.errors import LorimerError
from registry.keys import SCOPES, Grants, Key, KeyLog, Limits, find
from registry.terminal import Terminal, command, table, when
from registry.times import moment, seconds

NO_SCOPE = "none"


@click.group()
def keys() -> None:
    """API keys of a tenant: who may call its gateways, for what, and how much.

    The bucket holds hashes only. Gateways learn of a change within about a second.

    \b
    lorimer keys create shop --scope infer --adapter 'support-*' --requests-per-minute 600 --expires 90d
    lorimer keys rotate shop --overlap 1h
    lorimer keys revoke shop --reason "leaked in a log"
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([*sorted(SCOPES), NO_SCOPE]),
    help="What it may do, repeatable; none: look at /version and /metrics only.",
)
@click.option(
    "--adapter", "adapters", multiple=True, help="Only models of this name pattern, repeatable; the base counts as one."
)
@click.option("--expires", default=None, help="When it ends: 90d from now, or a time such as 2027-01-31.")
@click.option("--requests-per-minute", type=int, default=None)
@click.option("--tokens-per-minute", type=int, default=None)
@click.option("--concurrency", type=int, default=None, help="Requests at the same time.")
@command
def create(
    terminal: Terminal,
    /,
    *,
    name: str,
    scopes: tuple[str, ...],
    adapters: tuple[str, ...],
    expires: str | None,
    **limits: Any,
) -> None:
    """Make a key called NAME for the tenant, and print it: this once, and never again."""
    opened = open_registry(terminal.settings)
    grants = msgspec.convert(
        {
            "name": name,
            "tenant": opened.tenant,
            "scopes": [scope for scope in scopes if scope != NO_SCOPE],
            "adapters": adapters,
            "limits": Limits(**limits),
            "expires_at": None if expires is None else _end(expires, opened.clock()),
        },
        Grants,
    )
    with _on_record(opened, "key.create", name=name, scopes=sorted(grants.scopes)):
        key, secret = KeyLog.of(opened).create(grants)
    _tell_secret(terminal, key, secret, opened.clock())


@keys.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are revoked or have expired.")
@command
def list_keys(terminal: Terminal, *, everything: bool) -> None:
    """The tenant's keys, oldest first."""
    opened = open_registry(terminal.settings)
    now = opened.clock()
    ours = [key for key in KeyLog.of(opened).read().keys.values() if key.grants.tenant == opened.tenant]
    shown = [key for key in ours if everything or key.state(now) == "valid"]
    rows = [
        (key.id, key.grants.name, key.state(now), _scopes(key), ", ".join(key.grants.adapters) or "all",
         _until(key.grants.expires_at), when(key.created_at), key.created_by)
        for key in shown
    ]  # fmt: skip
    drawn = table(["id", "name", "state", "scopes", "models", "expires", "made", "by"], rows)
    terminal.result([_told(key, now) for key in shown], drawn if rows else "no keys")


@keys.command()
@click.argument("name")
@command
def show(terminal: Terminal, name: str) -> None:
    """One key, by name or id: what it may do, how much, and since when. Never its secret."""
    opened = open_registry(terminal.settings)
    key, now = find(KeyLog.of(opened).read(), opened.tenant, name), opened.clock()
    told = _told(key, now)
    rows = [(name, _cell(value)) for name, value in told.items() if value not in (None, "")]
    terminal.result(told, table(["", ""], rows))


@keys.command()
@click.argument("name")
@click.option("--overlap", default="1h", show_default=True, help="How long the secret before it stays valid.")
@command
def rotate(terminal: Terminal, name: str, overlap: str) -> None:
    """Give a key a new secret and print it, this once; the one before stays valid for the overlap."""
    opened = open_registry(terminal.settings)
    with _on_record(opened, "key.rotate", name=name, overlap_s=seconds(overlap)):
        key, secret = KeyLog.of(opened).rotate(opened.tenant, name, seconds(overlap))
    _tell_secret(terminal, key, secret, opened.clock())


@keys.command()
@click.argument("name")
@click.option("--reason", default="", help="Recorded with the key.")
@command
def revoke(terminal: Terminal, name: str, reason: str) -> None:
    """End a key for good. Requests that are running finish; gateways refuse new ones within about a second."""
    opened = open_registry(terminal.settings)
    with _on_record(opened, "key.revoke", name=name, reason=reason):
        key = KeyLog.of(opened).revoke(opened.tenant, name, reason)
    terminal.result(_told(key, opened.clock()), f"key {key.id} ({key.grants.name}) is revoked")


@contextmanager
def _on_record(opened: Registry, action: str, **what: Any) -> Iterator[None]:
    """Nothing is done that is not in the tenant's audit log; what was refused is told there too."""
    log = AuditLog(opened.store, opened.tenant, socket.gethostname(), opened.clock)
    number = log.record(opened.actor, action, what)
    try:
        yield
    except LorimerError as error:
        log.failed(number, opened.actor, f"{error.kind}: {error}")
        raise


def _tell_secret(terminal: Terminal, key: Key, secret: str, now: float) -> None:
    terminal.result({**_told(key, now), "secret": secret}, secret)
    terminal.say(f"key {key.id} ({key.grants.name}) of tenant {key.grants.tenant}: keep it, it is shown this once")


def _told(key: Key, now: float) -> dict[str, Any]:
    """A key without its hashes."""
    grants = key.grants
    return {
        "id": key.id,
        "name": grants.name,
        "tenant": grants.tenant,
        "state": key.state(now),
        "scopes": sorted(grants.scopes),
        "adapters": list(grants.adapters),
        "limits": msgspec.to_builtins(grants.limits),
        "expires_at": grants.expires_at,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "rotated_at": key.secrets[0].since if len(key.secrets) > 1 else None,
        "old_secret_until": key.secrets[-1].until,
        "revoked_at": key.revoked_at,
        "revoked_why": key.revoked_why,
    }


def _cell(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items() if number is not None) or "none"
    return when(value) if isinstance(value, float) else value


def _scopes(key: Key) -> str:
    return ", ".join(sorted(key.grants.scopes)) or NO_SCOPE


def _until(time_s: float | None) -> str:
    return "never" if time_s is None else when(time_s)


def _end(text: str, now: float) -> float:
    """`90d` counts from now; anything with a dash is a date."""
    return moment(text) if "-" in text else now + seconds(text)

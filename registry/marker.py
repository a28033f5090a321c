"""`registry.json`: that there is a registry, its format, who may write, and what the doctor found when it was made.

    format 1    what release 0.1 wrote: plain ops, unsigned events
    format 2    weighted aliases, aborts, quarantine, reviews, grants, rules, signatures; a single named writer

An older format stays readable and writable for ever; what it cannot express is refused until `upgrade`, because
programs that know only that format still read it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from registry.canonical import canonical
from registry.doctor import Verdict, probe
from registry.errors import Corrupt, NotFound, Refused
from registry.log import Event
from registry.names import check_name
from registry.store import Store, create_surely

FORMAT = 2
MARKER = "registry.json"


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    created_at: float
    read_only: bool
    writer: str | None = None
    """The only process that may write, where the store cannot decide races."""
    verdict: Verdict

    @property
    def mode(self) -> str:
        return "read-only" if self.read_only else f"single-writer ({self.writer})" if self.writer else "writable"


def initialise(
    store: Store, *, clock: Callable[[], float] = time.time, read_only: bool = False, writer: str | None = None
) -> Marker:
    """Create registry.json, or return the one that is there; a store that fails the probe is Refused.

    A `writer` is declared alone, which a store may be that fails only the races; naming another hands over to it.
    """
    if writer is not None:
        check_name(writer, "writer")
    with suppress(NotFound):
        found = read_marker(store)
        if not _is_changed(found, read_only, writer):
            return found
    verdict = probe(store, clock=clock)
    _check(verdict, read_only, writer)
    marker = Marker(format=FORMAT, created_at=clock(), read_only=read_only, writer=writer, verdict=verdict)
    if not create_surely(store, MARKER, canonical(marker)):
        found = read_marker(store)
        if not _is_changed(found, read_only, writer):
            return found
        store.put(MARKER, canonical(marker))
    return marker


def read_marker(store: Store) -> Marker:
    try:
        marker = msgspec.json.decode(store.get(MARKER), type=Marker)
    except NotFound:
        raise NotFound(f"{store.url} holds no registry", hint="create one: lorimer registry init") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{MARKER} in {store.url} is not readable: {error}") from error
    if marker.format > FORMAT:
        raise Refused(
            f"{store.url} has registry format {marker.format}; this program reads up to {FORMAT}", hint="update lorimer"
        )
    return marker


def upgrade(store: Store) -> Marker:
    """Let the registry hold what this program can write; programs that know less will refuse to read that."""
    marker = read_marker(store)
    if marker.format < FORMAT:
        marker = msgspec.structs.replace(marker, format=FORMAT)
        store.put(MARKER, canonical(marker))
    return marker


def check_format(event: Event[Any], format: int) -> None:
    """Refused where an event needs more than the registry's format."""
    if event.v > format:
        raise Refused(
            f"this needs registry format {event.v}; the registry has format {format}",
            hint="once every program that uses it is new enough: lorimer registry upgrade",
        )


def _is_changed(found: Marker, read_only: bool, writer: str | None) -> bool:
    """Whether init was asked for more than there is: writing where it was refused, or another writer alone."""
    if read_only:
        return False
    return found.read_only or (writer is not None and writer != found.writer and found.writer is not None)


def _check(verdict: Verdict, read_only: bool, writer: str | None) -> None:
    if verdict.passed or read_only or (writer is not None and verdict.holds_one_writer):
        return
    also = ", --single-writer NAME" if verdict.holds_one_writer else ""
    raise Refused(
        f"{verdict.url} cannot hold a writable registry: {'; '.join(verdict.failures)}",
        hint=f"use another store{also} or --read-only",
    )

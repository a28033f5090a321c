"""Tells collectors what this gateway may still fetch: a pin in the bucket, renewed while requests choose versions.

A gateway that may not write pins serves all the same: whoever deletes a version keeps its bytes for a day anyhow.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Callable, Collection

from structlog.typing import FilteringBoundLogger

from registry.errors import LorimerError
from registry.pins import Pins
from serving.gateway.choosing import Catalog

RENEW_S = 60.0
LEASE_S = 180.0


class Holder:
    """Owns this gateway's pin. `renew` is called often and writes seldom; `clock` is monotonic."""

    def __init__(self, catalog: Catalog, log: FilteringBoundLogger, clock: Callable[[], float]) -> None:
        registry = catalog.registry
        self.name = _name()
        self._catalog = catalog
        self._pins = Pins(registry.store, registry.tenant, registry.clock)
        self._log = log
        self._clock = clock
        self._due = clock()
        self._holds = False
        self._failing = False

    def renew(self, pinned: Collection[str]) -> None:
        """Once a minute: hold what was chosen lately or is pinned in memory; let go when nothing is."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + RENEW_S
        held: dict[str, set[str]] = {}
        for version in self._catalog.known.wanted(self._catalog.registry.tenant, LEASE_S, pinned):
            held.setdefault(version.adapter, set()).add(version.digest)
        try:
            if held:
                self._pins.hold(self.name, held, LEASE_S)
            elif self._holds:
                self._pins.release(self.name)
            self._holds, self._failing = bool(held), False
        except LorimerError as error:
            if not self._failing:
                self._log.warning("what is served here is not pinned", error=str(error))
            self._failing = True

    def release(self) -> None:
        if self._holds:
            self._holds = False
            try:
                self._pins.release(self.name)
            except LorimerError as error:  # it lapses by itself
                self._log.warning("the pin was not released", error=str(error))


def _name() -> str:
    """Unlike that of any gateway before, and still readable."""
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()).strip("-")[:40]
    return f"{host or 'gateway'}-{secrets.token_hex(4)}"

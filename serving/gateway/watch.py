"""Which adapters are about to change: one LIST a second for each tenant whose adapters are asked for here.

Tells places, (tenant, adapter); what became of them is for the log to say. A tenant that shares an adapter but lets
nobody read its notices is told of once: a move of its alias is then seen at the next request.
"""

from __future__ import annotations

from collections.abc import Iterable

from structlog.typing import FilteringBoundLogger

from registry.adapters import Registry
from registry.errors import LorimerError
from registry.names import parse_ref
from registry.notices import Notices

Place = tuple[str, str]


class Watch:
    """For one thread."""

    def __init__(self, registry: Registry, log: FilteringBoundLogger) -> None:
        self._registry = registry
        self._log = log
        self._notices: dict[str, Notices] = {}
        self._unheard: set[str] = set()

    def place_of(self, model: str) -> Place:
        ref = parse_ref(model)
        return ref.tenant or self._registry.tenant, ref.adapter

    def fresh(self, models: Iterable[str]) -> set[Place]:
        """Announced since the last call, of this tenant and of those that own `models`."""
        own = self._registry.tenant
        others = {self.place_of(model)[0] for model in models} - {own}
        self._notices = {tenant: self._notices.get(tenant) or self._open(tenant) for tenant in (own, *sorted(others))}
        found = {(own, adapter) for adapter in self._notices[own].fresh()}
        for tenant in others:
            found |= self._heard(tenant)
        return found

    def _heard(self, tenant: str) -> set[Place]:
        try:
            found = {(tenant, adapter) for adapter in self._notices[tenant].fresh()}
            self._unheard.discard(tenant)
        except LorimerError as error:
            if tenant not in self._unheard:
                self._log.warning("notices of another tenant cannot be read", tenant=tenant, error=str(error))
            self._unheard.add(tenant)
            return set()
        return found

    def _open(self, tenant: str) -> Notices:
        return Notices(self._registry.store, tenant, self._registry.clock)

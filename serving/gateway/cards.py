"""What /v1/models tells of a tenant's models. Reads an adapter's log again only when something was added to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from registry.adapters import Registry, Version
from registry.errors import NotFound, Refused
from registry.names import DEFAULT_ALIAS, Alias
from serving.gateway.wire.model import ModelCard

READERS = 16
"""Logs read at once when many are new here: a store far away takes its time over each."""


class Cards:
    """`all` blocks on the store: call it from a thread."""

    def __init__(self, registry: Registry, base_name: str, base_fingerprint: str) -> None:
        self._registry = registry
        self._base_name = base_name
        self._base_fingerprint = base_fingerprint
        self._known: dict[str, tuple[int, list[ModelCard]]] = {}
        """Adapter -> after how many events of its log, and its cards then."""
        self._lock = Lock()

    def all(self) -> list[ModelCard]:
        """Every name a request may use: the base, and each adapter under each alias (bare for the default one)."""
        summaries = self._registry.list()
        with self._lock:
            known = self._known
        stale = [each for each in summaries if each.adapter not in known or known[each.adapter][0] != each.events]
        with ThreadPoolExecutor(READERS, "gateway-cards") as readers:
            read = list(readers.map(self._read, [each.adapter for each in stale]))
        fresh = {each.adapter: (each.events, cards) for each, cards in zip(stale, read, strict=True)}
        with self._lock:
            self._known = {each.adapter: fresh.get(each.adapter) or known[each.adapter] for each in summaries}
            listed = list(self._known.values())
        return [self.base(self._base_name), *(card for _, cards in listed for card in cards)]

    def base(self, name: str) -> ModelCard:
        return ModelCard(id=name, created=0, owned_by="base", root=self._base_fingerprint, parent=None)

    def version(self, name: str, version: Version) -> ModelCard:
        return ModelCard(
            id=name,
            created=int(version.published_at),
            owned_by=version.tenant,
            root=version.digest,
            parent=self._base_name,
            version=version.number,
        )

    def _read(self, adapter: str) -> list[ModelCard]:
        try:
            state = self._registry.state(adapter)
        except (NotFound, Refused):  # just gone, or nobody whom this gateway trusts vouches for it
            return []
        return [
            self.version(adapter if alias == DEFAULT_ALIAS else f"{adapter}@{alias}", state.select(Alias(alias)))
            for alias in sorted(state.aliases)
        ]

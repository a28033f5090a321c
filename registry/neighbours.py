"""What tenants share: an owner grants another tenant an alias, a version or everything of one adapter.

The grant is an event of the adapter's own log. A reader of another tenant sees a view: the aliases and versions that
are granted, and nothing else; what is not granted looks as if it did not exist. Nobody can write through a grant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from registry.changes import Change
from registry.errors import Invalid, NotFound
from registry.names import Digest, check_name, parse_selector
from registry.ops import Grant, Op
from registry.versions import AdapterState

EVERYTHING = "*"
MAX_TENANTS = 256


class Owner(Protocol):
    """A tenant's adapters, as its own registry reads them."""

    def state(self, name: str, *, at: float | None = None) -> AdapterState: ...


class Neighbours:
    """Other tenants' adapters, as far as this tenant may read them. Grants count as they are now, whatever `at`."""

    def __init__(self, tenant: str, open_owner: Callable[[str], Owner]) -> None:
        self._tenant = tenant
        self._open = lru_cache(MAX_TENANTS)(open_owner)

    def state(self, owner: str, adapter: str, *, at: float | None = None) -> AdapterState:
        registry = self._open(owner)
        try:
            granted = registry.state(adapter).grants.get(self._tenant, ())
            shared = view(registry.state(adapter, at=at), granted) if granted else None
        except NotFound:
            shared = None
        if shared is None or not shared.versions:
            raise NotFound(
                f"no adapter {adapter!r} in tenant {owner!r} is shared with {self._tenant!r}",
                hint="its owner can: lorimer registry share",
            )
        return shared


def view(state: AdapterState, granted: Sequence[str]) -> AdapterState:
    """What these grants show of an adapter. Policy, reviews, grants to others and history they do not."""
    aliases = {a: digest for a, digest in state.aliases.items() if EVERYTHING in granted or a in granted}
    digests = {digest for alias in aliases for digest in state.standing(alias)}
    versions = tuple(
        version
        for version in state.versions
        if EVERYTHING in granted or version.digest in digests or f"v{version.number}" in granted
    )
    shown = {version.digest for version in versions}
    return AdapterState(
        tenant=state.tenant,
        adapter=state.adapter,
        versions=versions,
        aliases=aliases,
        splits={alias: targets for alias, targets in state.splits.items() if alias in aliases},
        alias_history=tuple(move for move in state.alias_history if move.alias in aliases),
        quarantined={digest: why for digest, why in state.quarantined.items() if digest in shown},
        created_at=state.created_at,
        updated_at=state.updated_at,
    )


def readers(state: AdapterState, digest: str) -> list[str]:
    """The other tenants that may read this version now."""
    return sorted(tenant for tenant, granted in state.grants.items() if view(state, granted).find(digest))


def share(tenant: str, selector: str, *, revoke: bool = False) -> Change:
    """Let another tenant read what `selector` means (`prod`, `v3`, a digest, `*` for everything), or no longer."""
    check_name(tenant, "tenant")

    def decide(state: AdapterState) -> list[Op]:
        if tenant == state.tenant:
            raise Invalid(f"{state.adapter} belongs to {tenant}: it can read it already", param="tenant")
        meant = _meant(state, selector, must_exist=not revoke)
        if revoke == (meant in state.grants.get(tenant, ())):
            return [Grant(tenant=tenant, selector=meant, revoked=revoke)]
        if revoke:
            raise NotFound(f"{meant} of {state.adapter} is not shared with {tenant}", hint=_shared(state, tenant))
        return []

    return decide


def _meant(state: AdapterState, selector: str, *, must_exist: bool) -> str:
    """Grants are recorded by alias or number; a digest is given as its version's number."""
    if selector == EVERYTHING:
        return selector
    parsed = parse_selector(selector)
    if must_exist or isinstance(parsed, Digest):
        version = state.select(parsed)
        return f"v{version.number}" if isinstance(parsed, Digest) else selector
    return selector


def _shared(state: AdapterState, tenant: str) -> str:
    return f"shared are {', '.join(granted)}" if (granted := state.grants.get(tenant)) else "nothing is"

"""Which other tenants may read which versions of an adapter, as its log holds it."""

from __future__ import annotations

from registry.ops import Grant

Grants = dict[str, tuple[str, ...]]
"""Tenant -> the selectors it may read, in order of granting."""


def fold_grant(grants: Grants, op: Grant) -> Grants:
    kept = tuple(selector for selector in grants.get(op.tenant, ()) if selector != op.selector)
    selectors = kept if op.revoked else (*kept, op.selector)
    others = {tenant: granted for tenant, granted in grants.items() if tenant != op.tenant}
    return {**others, op.tenant: selectors} if selectors else others

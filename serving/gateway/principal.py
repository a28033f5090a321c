"""Who a request comes from, and what that one may do. Knows no credential and no route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from litestar import Request

from registry.keys import NO_LIMITS, SCOPES, Limits, Scope
from serving.gateway.errors import Forbidden, ModelForbidden

__all__ = ["SCOPES", "Limits", "Principal", "Scope", "principal_of"]

KEY = "principal"


@dataclass(frozen=True)
class Principal:
    """`id` is `local`, `mtls`, `key:<id>` or `jwt:<subject>`. `adapters` are name patterns; empty allows all."""

    id: str
    tenant: str
    scopes: frozenset[Scope]
    adapters: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS

    def require_any(self, scopes: Sequence[Scope]) -> None:
        """Forbidden, naming what is missing, without at least one of these."""
        if self.scopes.isdisjoint(scopes):
            has = ", ".join(sorted(self.scopes)) or "none"
            needed = " or ".join(scopes)
            raise Forbidden(f"this needs the scope {needed}; the scopes of {self.id} are: {has}", scopes=scopes)

    def may_use(self, model: str) -> bool:
        """Whether a model or an adapter, named as requests name it, is among those allowed."""
        if not self.adapters:
            return True
        name = model.partition("@")[0].removeprefix(f"{self.tenant}/")
        return any(fnmatchcase(name, pattern) for pattern in self.adapters)

    def require_use(self, model: str) -> None:
        """ModelForbidden otherwise, whether there is such a model or not."""
        if not self.may_use(model):
            raise ModelForbidden(f"{self.id} may not use the model {model!r}; it may use {', '.join(self.adapters)}")


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """Set by the guard on every route that is not public."""
    principal = request.scope["state"][KEY]
    assert isinstance(principal, Principal)
    return principal

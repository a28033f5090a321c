"""Default deny: every route names the scope that it needs, and a guard on the application asks for it.

    opt={SCOPE: "infer"}             this scope
    opt={SCOPE: READ}                any one of these scopes
    opt={SCOPE: ANY}                 any valid credential
    opt={SCOPE: ..., OPERATOR: True}   of the gateway's own tenant, for what concerns all tenants
    opt={PUBLIC: True}               nothing

Knows nothing of what a route does, nor of how a credential is checked.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler

from registry.errors import Refused
from registry.keys import Scope
from serving.gateway.credentials import LOCAL
from serving.gateway.errors import Forbidden
from serving.gateway.principal import KEY

PUBLIC = "public"
SCOPE = "scope"
OPERATOR = "operator"
ANY: tuple[Scope, ...] = ()
READ: tuple[Scope, ...] = ("publish", "promote", "train", "admin")
"""Who works on adapters may look at all of the tenant's; who only asks them questions may not."""

NAMES_A_MODEL = frozenset({"name", "model"})
"""Parameters of paths that name an adapter or a model: a key that is limited to some gets no further with others."""


def scopes_of(handler: BaseRouteHandler) -> tuple[Scope, ...]:
    """The scopes of which a route needs one; none: any credential will do."""
    scopes: Scope | tuple[Scope, ...] = handler.opt.get(SCOPE, ANY)
    return scopes if isinstance(scopes, tuple) else (scopes,)


async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard on the whole application."""
    if handler.opt.get(PUBLIC):
        return
    gateway = connection.app.state.gateway
    principal = await gateway.credentials.principal(connection.headers.get("authorization"))
    connection.scope["state"][KEY] = principal
    if principal.id == LOCAL:
        require_local(connection.headers.get("host", ""))
    if scopes := scopes_of(handler):
        principal.require_any(scopes)
    for param in NAMES_A_MODEL & connection.path_params.keys():
        principal.require_use(str(connection.path_params[param]).removeprefix("/"))
    if handler.opt.get(OPERATOR) and principal.tenant != gateway.settings.tenant:
        raise Forbidden(f"this concerns all tenants; {principal.id} belongs to {principal.tenant}")


def check_routes(app: Litestar) -> None:
    """A route that says nothing of who may use it is a mistake of ours; found when the application is made."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            methods = handler.http_methods if isinstance(handler, HTTPRouteHandler) else set()
            assert methods == {"OPTIONS"} or handler.opt.keys() & {SCOPE, PUBLIC}, f"{route.path}: which scope?"


def require_guarded(host: str, is_guarded: bool) -> None:
    """Refused when the address is reachable from elsewhere and nothing would check who calls."""
    if not is_guarded and not is_loopback(host):
        raise Refused(
            f"binding {host} without API keys would open every adapter to the network",
            hint="bind 127.0.0.1, or make a key first: lorimer keys create NAME --scope infer",
        )


def require_local(host: str) -> None:
    """Forbidden for a request that names another host: a web page elsewhere can have its name point to this machine."""
    try:
        named = urlsplit(f"//{host}").hostname
    except ValueError:
        named = host
    if named and not is_loopback(named):
        hint = "make a key, lorimer keys create, or call 127.0.0.1"
        raise Forbidden(f"without keys only this machine may call, and by its own name, not as {named!r}", hint=hint)


def require_same_origin(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Forbidden for what a web page of another origin sent; for bodies that browsers let any page post."""
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise Forbidden(f"a page of {origin[:100]!r} may not do this", hint="call from a program, or from this host")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

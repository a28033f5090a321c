"""/api: what is registered, what is drifting, what is being retrained; and moving aliases. RFC 9457 problems."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import UNSET, Meta, UnsetType

from registry.jobs import Jobs
from serving.gateway.access import READ, SCOPE
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.trace import trace_of

Reason = Annotated[str, Meta(max_length=1000)]


class AliasMove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expect` is what the alias must hold now: a version, or null for not set; without it, whatever it holds."""

    to: str
    expect: str | UnsetType | None = UNSET
    reason: Reason = ""


class Rollback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expect` is what the alias must hold now: with it, a rollback in doubt can be repeated."""

    expect: str | UnsetType | None = UNSET
    reason: Reason = ""


@get("/api/adapters", opt={SCOPE: READ})
async def list_adapters(request: AnyRequest) -> Response[bytes]:
    gateway = gateway_of(request)
    summaries = await gateway.in_thread(gateway.registry.list)
    return respond({"adapters": summaries})


@get("/api/adapters/{name:str}", opt={SCOPE: READ})
async def show_adapter(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Versions with their manifests, aliases with their history, and the policy."""
    gateway = gateway_of(request)
    return respond(await gateway.in_thread(gateway.registry.state, name))


@get("/api/adapters/{name:str}/log", opt={SCOPE: READ})
async def show_log(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Every event that ever changed the adapter, oldest first."""
    gateway = gateway_of(request)
    return respond({"events": await gateway.in_thread(gateway.registry.log, name)})


@post("/api/adapters/{name:str}/aliases/{alias:str}", opt={SCOPE: "promote"}, status_code=200)
async def move_alias(request: AnyRequest, name: FromPath[str], alias: FromPath[str]) -> Response[bytes]:
    """Point an alias to a version, comparing and swapping when `expect` is given."""
    gateway, body = gateway_of(request), await read(request, AliasMove)
    _note(request, name, alias)
    event = await gateway.in_thread(
        gateway.registry.alias, name, alias, body.to, expect=body.expect, reason=body.reason
    )
    return respond(event)


@post("/api/adapters/{name:str}/aliases/{alias:str}/rollback", opt={SCOPE: "promote"}, status_code=200)
async def roll_back(request: AnyRequest, name: FromPath[str], alias: FromPath[str]) -> Response[bytes]:
    """Put an alias back to where its log says it stood before."""
    gateway, body = gateway_of(request), await read(request, Rollback)
    _note(request, name, alias)
    version = await gateway.in_thread(gateway.registry.rollback, name, alias, body.reason, expect=body.expect)
    return respond({"adapter": name, "alias": alias, "version": version.number, "digest": version.digest})


@get("/api/drift", opt={SCOPE: READ})
async def drift(request: AnyRequest) -> Response[bytes]:
    """The state of every watched adapter."""
    gateway = gateway_of(request)
    return respond({"adapters": await gateway.in_thread(gateway.drift)})


@get("/api/jobs", opt={SCOPE: READ})
async def jobs(request: AnyRequest) -> Response[bytes]:
    gateway = gateway_of(request)
    registry = gateway.registry
    return respond({"jobs": await gateway.in_thread(Jobs(registry.store, registry.tenant, registry.clock).list)})


@get("/api/quarantine", opt={SCOPE: READ})
async def quarantined(request: AnyRequest) -> Response[bytes]:
    """Versions that misbehaved while serving, and why."""
    return respond({"quarantined": gateway_of(request).quarantine.cases()})


@post("/api/quarantine/{digest:str}/release", opt={SCOPE: "admin"}, status_code=200)
async def release(request: AnyRequest, digest: FromPath[str]) -> Response[bytes]:
    """Serve a quarantined version again."""
    trace_of(request).fields |= {"digest": digest}
    return respond(gateway_of(request).quarantine.release(digest))


def _note(request: AnyRequest, name: str, alias: str) -> None:
    trace_of(request).fields |= {"adapter": name, "alias": alias}


ROUTES = [list_adapters, show_adapter, show_log, move_alias, roll_back, drift, jobs, quarantined, release]

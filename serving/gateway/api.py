"""/api: what is registered, what is drifting, what is being retrained; and moving aliases. RFC 9457 problems."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from registry.jobs import Jobs
from registry.log import Event
from registry.ops import Op
from registry.versions import AdapterState
from serving.gateway.access import READ, SCOPE
from serving.gateway.auditing import audit
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.trace import trace_of
from serving.gateway.wire.api import (
    AdapterList,
    AliasRequest,
    CaseList,
    DriftList,
    EventList,
    JobList,
    RollbackRequest,
    RolledBack,
)
from serving.quarantine import Case


@get("/api/adapters", opt={SCOPE: READ, OPERATION: Operation(answer=AdapterList)})
async def list_adapters(request: AnyRequest) -> Response[bytes]:
    """Every adapter in a line: its versions, aliases, base, metrics and tags."""
    gateway = gateway_of(request)
    summaries = await gateway.in_thread(gateway.registry.list)
    return respond(AdapterList(adapters=summaries))


@get("/api/adapters/{name:str}", opt={SCOPE: READ, OPERATION: Operation(answer=AdapterState)})
async def show_adapter(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Versions with their manifests, aliases with their history, and the policy."""
    gateway = gateway_of(request)
    return respond(await gateway.in_thread(gateway.registry.state, name))


@get("/api/adapters/{name:str}/log", opt={SCOPE: READ, OPERATION: Operation(answer=EventList)})
async def show_log(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Every event that ever changed the adapter, oldest first."""
    gateway = gateway_of(request)
    return respond(EventList(events=await gateway.in_thread(gateway.registry.log, name)))


@post(
    "/api/adapters/{name:str}/aliases/{alias:str}",
    opt={SCOPE: "promote", OPERATION: Operation(body=AliasRequest, answer=Event[Op], fails=(409,))},
    status_code=200,
)
async def move_alias(request: AnyRequest, name: FromPath[str], alias: FromPath[str]) -> Response[bytes]:
    """Point an alias to a version, comparing and swapping when `expect` is given."""
    gateway, body = gateway_of(request), await read(request, AliasRequest)
    _note(request, name, alias)
    await audit(request, "alias.move", adapter=name, alias=alias, to=body.to, reason=body.reason)
    event = await gateway.in_thread(
        gateway.registry.alias, name, alias, body.to, expect=body.expect, reason=body.reason
    )
    return respond(event)


@post(
    "/api/adapters/{name:str}/aliases/{alias:str}/rollback",
    opt={SCOPE: "promote", OPERATION: Operation(body=RollbackRequest, answer=RolledBack, fails=(409,))},
    status_code=200,
)
async def roll_back(request: AnyRequest, name: FromPath[str], alias: FromPath[str]) -> Response[bytes]:
    """Put an alias back to where its log says it stood before."""
    gateway, body = gateway_of(request), await read(request, RollbackRequest)
    _note(request, name, alias)
    await audit(request, "alias.rollback", adapter=name, alias=alias, reason=body.reason)
    version = await gateway.in_thread(gateway.registry.rollback, name, alias, body.reason, expect=body.expect)
    return respond(RolledBack(adapter=name, alias=alias, version=version.number, digest=version.digest))


@get("/api/drift", opt={SCOPE: READ, OPERATION: Operation(answer=DriftList)})
async def drift(request: AnyRequest) -> Response[bytes]:
    """The state of every watched adapter."""
    gateway = gateway_of(request)
    return respond(DriftList(adapters=await gateway.in_thread(gateway.drift)))


@get("/api/jobs", opt={SCOPE: READ, OPERATION: Operation(answer=JobList)})
async def jobs(request: AnyRequest) -> Response[bytes]:
    """Retraining jobs: what asked for them, who works on them, and what came of them."""
    gateway = gateway_of(request)
    registry = gateway.registry
    return respond(JobList(jobs=await gateway.in_thread(Jobs(registry.store, registry.tenant, registry.clock).list)))


@get("/api/quarantine", opt={SCOPE: READ, OPERATION: Operation(answer=CaseList)})
async def quarantined(request: AnyRequest) -> Response[bytes]:
    """Versions that misbehaved while serving, and why."""
    return respond(CaseList(quarantined=gateway_of(request).quarantine.cases()))


@post("/api/quarantine/{digest:str}/release", opt={SCOPE: "admin", OPERATION: Operation(answer=Case)}, status_code=200)
async def release(request: AnyRequest, digest: FromPath[str]) -> Response[bytes]:
    """Serve a quarantined version again."""
    trace_of(request).fields |= {"digest": digest}
    await audit(request, "quarantine.release", digest=digest)
    return respond(gateway_of(request).quarantine.release(digest))


def _note(request: AnyRequest, name: str, alias: str) -> None:
    trace_of(request).fields |= {"adapter": name, "alias": alias}


ROUTES = [list_adapters, show_adapter, show_log, move_alias, roll_back, drift, jobs, quarantined, release]

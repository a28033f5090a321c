"""/api: what is registered, what is drifting, what is being retrained; and moving aliases. RFC 9457 problems."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from registry.adapters import Registry
from registry.errors import NotFound
from registry.log import Event
from registry.ops import Op
from registry.versions import AdapterState
from serving.gateway.access import READ, SCOPE, require_same_origin
from serving.gateway.auditing import audit
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import principal_of
from serving.gateway.tenancy import tenant_of
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
    summaries = await gateway_of(request).in_thread(tenant_of(request).registry.list)
    may_use = principal_of(request).may_use
    return respond(AdapterList(adapters=[summary for summary in summaries if may_use(summary.adapter)]))


@get("/api/adapters/{name:str}", opt={SCOPE: READ, OPERATION: Operation(answer=AdapterState)})
async def show_adapter(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Versions with their manifests, aliases with their history, and the policy."""
    return respond(await gateway_of(request).in_thread(tenant_of(request).registry.state, name))


@get("/api/adapters/{name:str}/log", opt={SCOPE: READ, OPERATION: Operation(answer=EventList)})
async def show_log(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Every event that ever changed the adapter, oldest first."""
    return respond(EventList(events=await gateway_of(request).in_thread(tenant_of(request).registry.log, name)))


@post(
    "/api/adapters/{name:str}/aliases/{alias:str}",
    opt={SCOPE: "promote", OPERATION: Operation(body=AliasRequest, answer=Event[Op], fails=(409,))},
    status_code=200,
)
async def move_alias(request: AnyRequest, name: FromPath[str], alias: FromPath[str]) -> Response[bytes]:
    """Point an alias to a version, or to several by weight, comparing and swapping when `expect` is given."""
    registry, body = _changing(request, name, alias), await read(request, AliasRequest)
    await audit(request, "alias.move", adapter=name, alias=alias, to=body.to, reason=body.reason)
    in_thread = gateway_of(request).in_thread
    return respond(await in_thread(registry.alias, name, alias, body.to, expect=body.expect, reason=body.reason))


@post(
    "/api/adapters/{name:str}/aliases/{alias:str}/rollback",
    opt={SCOPE: "promote", OPERATION: Operation(body=RollbackRequest, answer=RolledBack, fails=(409,))},
    status_code=200,
)
async def roll_back(request: AnyRequest, name: FromPath[str], alias: FromPath[str]) -> Response[bytes]:
    """Put an alias back to where its log says it stood before."""
    registry, body = _changing(request, name, alias), await read(request, RollbackRequest)
    await audit(request, "alias.rollback", adapter=name, alias=alias, reason=body.reason)
    in_thread = gateway_of(request).in_thread
    version = await in_thread(registry.rollback, name, alias, body.reason, expect=body.expect)
    return respond(RolledBack(adapter=name, alias=alias, version=version.number, digest=version.digest))


@get("/api/drift", opt={SCOPE: READ, OPERATION: Operation(answer=DriftList)})
async def drift(request: AnyRequest) -> Response[bytes]:
    """The state of every watched adapter."""
    statuses = await gateway_of(request).in_thread(tenant_of(request).drift)
    may_use = principal_of(request).may_use
    return respond(DriftList(adapters=[status for status in statuses if may_use(status["adapter"])]))


@get("/api/jobs", opt={SCOPE: READ, OPERATION: Operation(answer=JobList)})
async def list_jobs(request: AnyRequest) -> Response[bytes]:
    """Retraining and fine-tuning jobs: what asked for them, who works on them, and what came of them."""
    jobs = await gateway_of(request).in_thread(tenant_of(request).jobs.list)
    may_use = principal_of(request).may_use
    return respond(JobList(jobs=[job for job in jobs if may_use(str(job.spec.get("adapter", "")))]))


@get("/api/quarantine", opt={SCOPE: READ, OPERATION: Operation(answer=CaseList)})
async def quarantined(request: AnyRequest) -> Response[bytes]:
    """Versions that misbehaved while serving, and why."""
    return respond(CaseList(quarantined=_cases(request)))


@post("/api/quarantine/{digest:str}/release", opt={SCOPE: "admin", OPERATION: Operation(answer=Case)}, status_code=200)
async def release(request: AnyRequest, digest: FromPath[str]) -> Response[bytes]:
    """Serve a quarantined version again."""
    require_same_origin(request)
    trace_of(request).fields |= {"digest": digest}
    case = next((case for case in _cases(request) if case.digest == digest), None)
    if case is None:
        raise NotFound(f"{digest} is not quarantined")
    await audit(request, "quarantine.release", digest=digest)
    gateway_of(request).quarantine.release(digest)
    return respond(case)


def _cases(request: AnyRequest) -> list[Case]:
    """Of adapters that the principal may use."""
    may_use = principal_of(request).may_use
    return [case for case in tenant_of(request).cases(gateway_of(request).quarantine) if may_use(case.name)]


def _changing(request: AnyRequest, name: str, alias: str) -> Registry:
    """The registry in whose events the caller is named."""
    trace_of(request).fields |= {"adapter": name, "alias": alias}
    registry = tenant_of(request).registry
    return registry.acting_as(f"{principal_of(request).id} via {registry.actor}")


ROUTES = [list_adapters, show_adapter, show_log, move_alias, roll_back, drift, list_jobs, quarantined, release]

"""/api: what was captured, and taking it out again. Texts are shown as they are kept: redacted, under pseudonyms."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from registry.captures import Captured, read_captures
from registry.captures.erasures import Erasures
from registry.captures.expiry import Expired
from registry.captures.remains import Forgotten, forget
from registry.captures.rows import training_row
from registry.captures.upkeep import expire
from registry.errors import Invalid
from registry.names import check_name
from registry.times import moment
from serving.gateway.access import SCOPE
from serving.gateway.auditing import audit
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import principal_of
from serving.gateway.tenancy import Tenant, tenant_of
from serving.gateway.wire.captures import CaptureList, ErasureCard, ErasureList, ExpireRequest, ForgetRequest

MAX_LISTED = 1000
NDJSON = "application/x-ndjson"
Since = Annotated[str, QueryParameter(description="Only requests from this moment on: ISO 8601, or seconds.")]


@get("/api/adapters/{name:str}/captures", opt={SCOPE: "train", OPERATION: Operation(answer=CaptureList)})
async def list_captures(
    request: AnyRequest,
    name: FromPath[str],
    *,
    limit: Annotated[int, QueryParameter(description="Most captures to answer with, 1 to 1000.")] = 100,
    since: Since = "0",
) -> Response[bytes]:
    """What was kept of requests to an adapter and of the feedback on them, newest first."""
    if not 1 <= limit <= MAX_LISTED:
        raise Invalid(f"limit must lie between 1 and {MAX_LISTED}", param="limit")
    found = await _captures(request, name, since)
    return respond(CaptureList(captures=found[: -limit - 1 : -1]))


@get(
    "/api/adapters/{name:str}/captures/export",
    opt={SCOPE: "train", OPERATION: Operation(media_type=NDJSON)},
)
async def export_captures(
    request: AnyRequest,
    name: FromPath[str],
    *,
    rows: Annotated[
        bool, QueryParameter(description="As rows to train on: corrected answers, and those rated up.")
    ] = False,
    since: Since = "0",
) -> Response[bytes]:
    """All that was kept of requests to an adapter, as JSON lines, oldest first."""
    found = await _captures(request, name, since)
    documents = [training_row(each) for each in found] if rows else found
    lines = b"".join(msgspec.json.encode(each) + b"\n" for each in documents if each is not None)
    return Response(lines, media_type=NDJSON)


@post(
    "/api/captures/forget",
    status_code=200,
    opt={SCOPE: "admin", OPERATION: Operation(body=ForgetRequest, answer=Forgotten)},
)
async def forget_user(request: AnyRequest) -> Response[bytes]:
    """Take out everything a user gave until now, for good; say how much it was, and what remains in datasets."""
    gateway, tenant, body = gateway_of(request), tenant_of(request), await read(request, ForgetRequest)
    person = await gateway.in_thread(tenant.pseudonyms.of, body.user)
    await audit(request, "captures.forget", person=person, reason=body.reason)
    done = await gateway.in_thread(
        forget, tenant.registry, body.user, actor=principal_of(request).id, reason=body.reason
    )
    return respond(done)


@post(
    "/api/captures/expire",
    status_code=200,
    opt={SCOPE: "admin", OPERATION: Operation(body=ExpireRequest, answer=Expired)},
)
async def expire_captures(request: AnyRequest) -> Response[bytes]:
    """Take out what is older than its adapter's policy keeps it, or one adapter's that is older than so many days."""
    body = await read(request, ExpireRequest)
    if body.adapter is not None:
        principal_of(request).require_use(check_name(body.adapter, "adapter"))
    await audit(request, "captures.expire", adapter=body.adapter, days=body.days)
    registry = tenant_of(request).registry
    return respond(await gateway_of(request).in_thread(expire, registry, body.adapter, body.days))


@get("/api/captures/erasures", opt={SCOPE: "admin", OPERATION: Operation(answer=ErasureList)})
async def list_erasures(request: AnyRequest) -> Response[bytes]:
    """Who was forgotten, under pseudonyms, oldest first: when, whether it is finished, how much it was."""
    return respond(ErasureList(erasures=await gateway_of(request).in_thread(_erasures, tenant_of(request))))


async def _captures(request: AnyRequest, name: str, since: str) -> list[Captured]:
    """Of an adapter that the principal may use."""
    tenant = tenant_of(request)
    principal_of(request).require_use(check_name(name, "adapter"))
    registry = tenant.registry
    return await gateway_of(request).in_thread(read_captures, registry.store, tenant.name, name, moment(since))


def _erasures(tenant: Tenant) -> list[ErasureCard]:
    erasures = Erasures(tenant.registry.store, tenant.name, tenant.registry.clock)
    return [
        ErasureCard(
            erasure=each.id, person=each.person, time=each.time, done=each.is_done, counts=erasures.counts(each)
        )
        for each in erasures.standing()
    ]


ROUTES = [list_captures, export_captures, forget_user, expire_captures, list_erasures]

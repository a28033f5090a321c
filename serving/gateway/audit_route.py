"""/api/audit: what was changed through the gateways of this tenant, by whom. Writes nothing."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from registry.times import moment
from serving.gateway.access import SCOPE
from serving.gateway.exchange import AnyRequest, gateway_of, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import principal_of
from serving.gateway.wire.api import AuditTrail


@get("/api/audit", opt={SCOPE: "admin", OPERATION: Operation(answer=AuditTrail)})
async def show_audit(
    request: AnyRequest,
    *,
    limit: Annotated[int, QueryParameter(description="Most records to answer with, 1 to 1000.")] = 100,
    since: Annotated[str, QueryParameter(description="Only records from this moment on: ISO 8601, or seconds.")] = "0",
    action: Annotated[str, QueryParameter(description="Only this action, such as alias.move.")] = "",
    actor: Annotated[str, QueryParameter(description="Only what this principal did.")] = "",
    before: Annotated[int | None, QueryParameter(description="Only records with a lower number.")] = None,
) -> Response[bytes]:
    """What was changed through the gateways and by key verbs, by whom and when, newest first."""
    gateway, log = gateway_of(request), gateway_of(request).audits.of(principal_of(request).tenant)
    records = await gateway.in_thread(log.newest, limit, since=moment(since), action=action, actor=actor, before=before)
    return respond(AuditTrail(records=records))


ROUTES = [show_audit]

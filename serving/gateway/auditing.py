"""Putting on record what a request is about to change: who, what, when, under which request id. Knows no route.

A handler calls `audit` before it acts. If the record cannot be written the call fails, and so does the request: what is
not on record is not done. Should the action fail afterwards, that is recorded too.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from litestar.types import Scope as ConnectionScope

from registry.audit import AuditLog
from registry.errors import LorimerError
from registry.store import Store
from serving.gateway.exchange import AnyRequest, gateway_of
from serving.gateway.principal import principal_of
from serving.gateway.trace import trace_of

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

KEY = "audited"


class Audits:
    """The audit logs of the tenants that this gateway serves, each opened when it is first written or read."""

    def __init__(self, store: Store, gateway_id: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._gateway_id = gateway_id
        self._clock = clock
        self._logs: dict[str, AuditLog] = {}
        self._lock = Lock()

    def of(self, tenant: str) -> AuditLog:
        with self._lock:
            if tenant not in self._logs:
                self._logs[tenant] = AuditLog(self._store, tenant, self._gateway_id, self._clock)
            return self._logs[tenant]


async def audit(request: AnyRequest, action: str, **what: Any) -> None:
    """Record that the request's principal is about to do `action` (`alias.move`) to `what`; durable on return.

    `what` is kept for ever: names, digests, numbers and reasons; never a secret, a text, or a user id in clear.
    """
    gateway, principal, trace = gateway_of(request), principal_of(request), trace_of(request)
    log = gateway.audits.of(principal.tenant)
    number = await gateway.in_thread(log.record, principal.id, action, what, trace.request_id)
    trace.fields |= {"action": action, "audit": number}
    request.scope["state"][KEY] = (log, number, principal.id)


async def record_failure(error: Exception, scope: ConnectionScope) -> None:
    """The application's hook on errors: an action on record that was not done is told as such."""
    if (audited := scope["state"].pop(KEY, None)) is None:
        return
    log, number, actor = audited
    gateway: Gateway = scope["litestar_app"].state.gateway
    told = f"{error.kind}: {error}" if isinstance(error, LorimerError) else type(error).__name__
    try:
        await gateway.in_thread(log.failed, number, actor, told[:1000])
    except LorimerError as unwritten:
        gateway.log.error("audit record left without its outcome", audit=number, outcome=told, error=str(unwritten))

"""Who asks, and on what terms: all that a generation request says beside its body. Knows no body and no engine."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from serving.gateway import deadline
from serving.gateway.deadline import Deadline, deadline_of
from serving.gateway.exchange import AnyRequest
from serving.gateway.principal import Principal, principal_of
from serving.gateway.tenancy import Tenant, tenant_of
from serving.gateway.trace import Trace, trace_of

T = TypeVar("T")

SESSION = "x-session-id"


@dataclass(frozen=True, eq=False)
class Caller:
    principal: Principal
    tenant: Tenant
    trace: Trace
    session: str | None = None
    deadline: Deadline | None = None

    async def bound(self, work: Coroutine[Any, Any, T]) -> T:
        """`work`, for as long as the caller would wait for it."""
        return await (work if self.deadline is None else self.deadline.bound(work))


def caller_of(request: AnyRequest) -> Caller:
    """Invalid where a header makes no sense."""
    trace = trace_of(request)
    until = deadline_of(request.headers.get(deadline.HEADER), trace.elapsed_s())
    return Caller(principal_of(request), tenant_of(request), trace, request.headers.get(SESSION), until)

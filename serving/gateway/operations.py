"""What machines ask of a gateway: /health, /ready, /version, /metrics."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST

from serving.gateway.access import ANY, OPERATOR, PUBLIC, SCOPE
from serving.gateway.exchange import AnyRequest, gateway_of

OPEN: dict[str, Any] = {PUBLIC: True}


@get("/health", opt=OPEN)
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@get("/ready", opt=OPEN)
async def ready(request: AnyRequest) -> Response[dict[str, str]]:
    """Whether to send requests here: 503 while draining, or when the engine has died."""
    gateway = gateway_of(request)
    if gateway.is_ready():
        return Response({"status": "ready"})
    status = "draining" if gateway.draining else "the engine is not running"
    return Response({"status": status}, status_code=503, headers={"retry-after": "1"})


@get("/version", opt={SCOPE: ANY})
async def show_version(request: AnyRequest) -> dict[str, str]:
    identity = gateway_of(request).base.profile.identity
    return {"version": version("lorimer"), "base": identity.id, "base_weights": identity.weights_sha256}


@get("/metrics", opt={SCOPE: ANY, OPERATOR: True})
async def metrics(request: AnyRequest) -> Response[bytes]:
    gateway = gateway_of(request)
    return Response(await gateway.in_thread(gateway.metrics.render), media_type=CONTENT_TYPE_LATEST)


ROUTES = [health, ready, show_version, metrics]

"""What machines ask of a gateway: /health, /ready, /version, /metrics."""

from __future__ import annotations

from importlib.metadata import version

from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST

from registry.errors import Unavailable
from serving.gateway.access import ANY, OPERATOR, PUBLIC, SCOPE
from serving.gateway.exchange import AnyRequest, gateway_of, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.wire.server import ServerVersion, Status


@get("/health", opt={PUBLIC: True, OPERATION: Operation(answer=Status)})
async def health() -> Response[bytes]:
    """The process answers."""
    return respond(Status(status="ok"))


@get("/ready", opt={PUBLIC: True, OPERATION: Operation(answer=Status, fails=(503,))})
async def ready(request: AnyRequest) -> Response[bytes]:
    """Whether to send requests here: 503 while draining, or when the engine has died."""
    gateway = gateway_of(request)
    if not gateway.is_ready():
        raise Unavailable("draining" if gateway.draining else "the engine is not running")
    return respond(Status(status="ready"))


@get("/version", opt={SCOPE: ANY, OPERATION: Operation(answer=ServerVersion)})
async def show_version(request: AnyRequest) -> Response[bytes]:
    """Which program answers, and from which base."""
    identity = gateway_of(request).base.profile.identity
    return respond(ServerVersion(version=version("lorimer"), base=identity.id, base_weights=identity.weights_sha256))


@get("/metrics", opt={SCOPE: ANY, OPERATOR: True, OPERATION: Operation(media_type=CONTENT_TYPE_LATEST)})
async def metrics(request: AnyRequest) -> Response[bytes]:
    """What Prometheus scrapes; for keys of the gateway's own tenant."""
    gateway = gateway_of(request)
    return Response(await gateway.in_thread(gateway.metrics.render), media_type=CONTENT_TYPE_LATEST)


ROUTES = [health, ready, show_version, metrics]

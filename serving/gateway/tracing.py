"""Whether requests are traced. Where no exporter is configured nothing of OpenTelemetry is imported.

The usual variables decide: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT turn it on,
OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER=none off; sampling, headers, names and timeouts are read by the SDK itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from litestar.types import ASGIApp

from registry.errors import Invalid

if TYPE_CHECKING:
    from serving.gateway.calls import Call

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"


class Tracing(Protocol):
    """`began` and `ended` are called on the event loop, the first within the request's own task."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application with a span around every request that is no probe."""
        ...

    def began(self, call: Call) -> None: ...
    def ended(self, call: Call) -> None: ...

    def close(self) -> None:
        """Export what is left."""
        ...


class Untraced:
    """Nobody asked for traces."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        return app

    def began(self, call: Call) -> None: ...
    def ended(self, call: Call) -> None: ...
    def close(self) -> None: ...


def open_tracing(environ: Mapping[str, str], gateway_id: str) -> Tracing:
    """Invalid where traces are asked for that cannot be had."""
    if not is_asked_for(environ):
        return Untraced()
    spoken = next((environ[name] for name in PROTOCOLS if environ.get(name)), SPOKEN)
    if spoken != SPOKEN:
        raise Invalid(f"traces are exported as {SPOKEN}, not as {spoken!r}", hint=f"unset {PROTOCOLS[1]}")
    try:
        from serving.gateway.spans import Spans
    except ImportError as error:
        hint = "install lorimer[otel], or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        raise Invalid(f"traces are asked for, and {error.name} is not installed", hint=hint) from error
    return Spans.exporting(gateway_id)


def is_asked_for(environ: Mapping[str, str]) -> bool:
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp" and any(map(environ.get, ENDPOINTS))

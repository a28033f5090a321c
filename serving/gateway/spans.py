"""Requests as OpenTelemetry spans: one around the HTTP exchange, one for the generation, one for each of its stages.

    POST /v1/chat/completions          by the ASGI instrumentation; continues the caller's `traceparent`
    `- chat support                    GenAI attributes
       |- resolve, tokenise, load      on the event loop and its threads
       `- queue, prefill, decode       in the engine, for each answer

Names, numbers and digests; never a word of what was asked or answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from threading import Timer
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from serving.gateway.calls import Call
from serving.gateway.generation import Row
from serving.gateway.request_line import QUIET, UNKNOWN
from serving.gateway.trace import TRACE_ID

OPERATIONS = {"chatcmpl": "chat", "cmpl": "text_completion", "embd": "embeddings", "resp": "chat"}
"""GenAI's word for what a call does, by the prefix of its id."""
CLOSE_S = 2.0
MAX_ROWS = 16
"""Answers of one call whose stages have spans of their own."""

Stage = tuple[str, float, float]
"""A name, when it began by `time.perf_counter`, and its seconds."""


class Spans:
    """Owns its provider; nothing global is touched."""

    def __init__(self, provider: TracerProvider, exporter: SpanExporter) -> None:
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("lorimer", version("lorimer"))
        self._parents: dict[str, Context] = {}

    @classmethod
    def exporting(cls, gateway_id: str) -> Spans:
        """To where the environment says."""
        about = {"service.name": "lorimer", "service.version": version("lorimer"), "service.instance.id": gateway_id}
        resource = Resource.create(about).merge(OTELResourceDetector().detect())
        provider, exporter = TracerProvider(resource=resource, shutdown_on_exit=False), OTLPSpanExporter()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, exporter)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        instrumented: Any = OpenTelemetryMiddleware(
            Named(app),
            excluded_urls=",".join(f"{path}$" for path in sorted(QUIET)),
            default_span_details=lambda scope: (scope["method"], {}),
            tracer_provider=self._provider,
            meter_provider=NoOpMeterProvider(),
            exclude_spans=["receive", "send"],
        )
        return instrumented  # type: ignore[no-any-return]

    def began(self, call: Call) -> None:
        self._parents[call.id] = context.get_current()

    def ended(self, call: Call) -> None:
        parent = self._parents.pop(call.id, None)
        origin = time.time() - time.perf_counter()
        operation = OPERATIONS.get(call.question.id_prefix, "chat")
        span = self._tracer.start_span(
            f"{operation} {call.choice.label or call.choice.requested}",
            parent,
            SpanKind.INTERNAL,
            {"gen_ai.operation.name": operation, **_attributes(call)},
            start_time=_ns(origin + call.trace.started_at),
        )
        inside = trace.set_span_in_context(span, parent)
        for name, began, seconds in _stages(call):
            stage = self._tracer.start_span(name, inside, start_time=_ns(origin + began))
            stage.end(_ns(origin + began + seconds))
        if failure := next((each for row in call.generation.rows if (each := row.failure())), None):
            span.set_attribute("error.type", type(failure).__name__)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Export what is left; a collector that does not answer holds nobody up for longer than `CLOSE_S`."""
        give_up = Timer(CLOSE_S, self._exporter.shutdown)
        give_up.start()
        self._provider.shutdown()
        give_up.cancel()


class Named:
    """Within the instrumentation: gives its span the route's name once that is known, and the log line its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = trace.get_current_span()
        identity = span.get_span_context()
        if identity.is_valid:
            scope.setdefault("state", {})[TRACE_ID] = trace.format_trace_id(identity.trace_id)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":  # the instrumentation ends its span with the last byte
                told: Any = scope
                route = told.get("path_template") or UNKNOWN
                span.update_name(f"{told['method']} {route}")
                span.set_attribute("http.route", route)
            await send(message)

        await self._app(scope, receive, named)


def _attributes(call: Call) -> dict[str, AttributeValue]:
    rows, choice = call.generation.rows, call.choice
    sampling, usage = rows[0].request.sampling, call.usage()
    told: dict[str, AttributeValue | None] = {
        "gen_ai.provider.name": "lorimer",
        "gen_ai.request.model": choice.requested,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k or None,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.choice.count": len(rows) // max(call.num_prompts, 1),
        "gen_ai.response.id": call.id,
        "gen_ai.response.model": choice.version.name if choice.version else choice.label or choice.requested,
        "gen_ai.response.finish_reasons": [row.finished.reason for row in rows if row.finished is not None],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "lorimer.tenant": call.tenant.name,
        "lorimer.key": call.principal.id,
        "lorimer.request_id": call.trace.request_id,
        "lorimer.adapter": choice.label,
        "lorimer.digest": choice.fingerprint,
        "lorimer.alias": choice.alias,
    }
    return {name: value for name, value in told.items() if value is not None}


def _stages(call: Call) -> Iterator[Stage]:
    for name, began in call.trace.begun.items():
        yield name, began, call.trace.seconds[name]
    for row in call.generation.rows[:MAX_ROWS]:
        yield from _engine_stages(row)


def _engine_stages(row: Row) -> Iterator[Stage]:
    """Counted back from the first token, or from now where there was none."""
    if row.finished is None:
        return
    timings = row.finished.timings
    first = row.arrivals[0] if row.arrivals else time.perf_counter() - timings.decode_s
    yield "queue", first - timings.prefill_s - timings.queued_s, timings.queued_s
    yield "prefill", first - timings.prefill_s, timings.prefill_s
    yield "decode", first, timings.decode_s


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)

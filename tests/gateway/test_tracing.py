"""Traces, against a real OTLP receiver: which spans there are, how they hang together, what they say and what not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from registry.errors import Invalid
from serving.gateway.tracing import Untraced, open_tracing

if TYPE_CHECKING:
    from tests.gateway.collector import Collector
    from tests.gateway.conftest import Running

PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "pelargonium-zebra-4711"


@pytest.fixture
def collector() -> Iterator[Collector]:
    if os.environ.get("CI") != "true":
        pytest.importorskip("opentelemetry.sdk", reason="lorimer[otel] is not installed")
    from tests.gateway.collector import collecting

    with collecting() as each:
        yield each


@pytest.fixture
def traced(collector: Collector, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "lorimer-under-test")
    running = start()
    running.publish("alpha", 1)
    return running


def test_a_generation_is_told_in_spans(traced: Running, collector: Collector) -> None:
    from tests.gateway.collector import attributes

    headers = {"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01", "x-request-id": "traced-1"}
    body = {"model": "alpha", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 5, "ignore_eos": True}
    answer = traced.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    spans = {span.name: span for span in collector.wait_for(lambda spans: len(spans) >= 8)}
    assert set(spans) == {
        "POST /v1/chat/completions", "chat alpha", "resolve", "tokenise", "load", "queue", "prefill", "decode",
    }  # fmt: skip
    assert {span.trace_id.hex() for span in spans.values()} == {PARENT[0]}
    http, chat = spans.pop("POST /v1/chat/completions"), spans.pop("chat alpha")
    assert http.parent_span_id.hex() == PARENT[1]
    assert chat.parent_span_id == http.span_id
    assert {span.parent_span_id for span in spans.values()} == {chat.span_id}
    order = sorted(spans.values(), key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in order] == ["resolve", "tokenise", "load", "queue", "prefill", "decode"]
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in order)
    slack = 50_000_000
    assert chat.start_time_unix_nano - slack <= order[0].start_time_unix_nano
    assert order[-1].end_time_unix_nano <= chat.end_time_unix_nano + slack
    told = attributes(chat)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "alpha"
    assert told["gen_ai.response.model"] == "alpha@v1"
    assert told["gen_ai.response.id"] == answer.json()["id"]
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    assert told["gen_ai.usage.output_tokens"] == 5
    assert told["gen_ai.usage.input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert (told["lorimer.tenant"], told["lorimer.key"]) == ("default", "local")
    assert told["lorimer.digest"] == answer.headers["x-adapter-digest"]
    assert told["lorimer.request_id"] == "traced-1"
    resource = collector.resources[0]
    assert resource["service.name"] == "lorimer-under-test"
    assert resource["service.instance.id"]
    line = next(each for each in traced.logged() if each.get("request_id") == "traced-1")
    assert line["trace_id"] == PARENT[0]
    assert SECRET.encode() not in collector.bytes


def test_a_stream_is_one_span_to_its_end_and_a_refusal_says_so(traced: Running, collector: Collector) -> None:
    from tests.gateway.collector import attributes

    streamed = traced.chat("alpha", stream=True, max_tokens=3, ignore_eos=True)
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert traced.chat("nobody").status_code == 404
    traced.http.get("/nowhere")
    traced.http.get("/health")
    spans = collector.wait_for(lambda spans: len(spans) >= 10)
    http = [span for span in spans if span.name.startswith(("POST", "GET"))]
    assert sorted(span.name for span in http) == ["GET (none)", *["POST /v1/chat/completions"] * 2]
    (chat,) = [span for span in spans if span.name == "chat alpha"]
    (whole,) = [span for span in http if span.span_id == chat.parent_span_id]
    assert whole.end_time_unix_nano >= chat.end_time_unix_nano - 50_000_000
    codes = sorted(
        attributes(span).get("http.status_code") or attributes(span)["http.response.status_code"] for span in http
    )
    assert codes == [200, 404, 404]


def test_what_is_left_is_exported_when_the_gateway_closes(
    collector: Collector, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    running = start()
    running.chat(running.base_name, max_tokens=1)
    running.server.stop()
    running.gateway.close()
    assert any(span.name.startswith("chat ") for span in collector.spans)


def test_a_collector_that_is_gone_holds_nobody_up(
    collector: Collector, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    collector.shutdown()
    collector.server_close()
    running = start()
    assert running.chat(running.base_name, max_tokens=1).status_code == 200
    began = time.monotonic()
    running.gateway.tracing.close()
    assert time.monotonic() - began < 5


def test_traces_that_cannot_be_had_are_refused() -> None:
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    with pytest.raises(Invalid, match="grpc"):
        open_tracing({**where, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "g")
    for off in ({}, {**where, "OTEL_SDK_DISABLED": "true"}, {**where, "OTEL_TRACES_EXPORTER": "none"}):
        assert isinstance(open_tracing(off, "g"), Untraced)


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    code = """
import json, sys
from serving.gateway import server, gateway
from serving.gateway.tracing import open_tracing
open_tracing({}, "g")
print(json.dumps([name for name in sys.modules if name.startswith("opentelemetry")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == []

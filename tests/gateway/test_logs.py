"""The lines themselves: one form for ours and the libraries', who asked by which route, and the caller's trace."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from registry.errors import Corrupt, Invalid
from serving.gateway.logs import adopt_standard_logging, request_log
from serving.gateway.request_line import RequestLog
from serving.gateway.trace import TRACE_ID, Trace, begin
from tests.gateway.test_privacy import wait_for

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def standard() -> Iterator[None]:
    """Puts the process's logging back."""
    root, ours = logging.getLogger(), logging.getLogger("lorimer")
    before = root.handlers, root.level, ours.level
    yield
    root.handlers, root.level, ours.level = before
    logging.getLogger("lorimer.engine").disabled = False


@pytest.mark.usefixtures("standard")
def test_libraries_write_in_the_same_form() -> None:
    stream = io.StringIO()
    adopt_standard_logging(stream)
    try:
        raise KeyError("somebody's words")
    except KeyError:
        logging.getLogger("lorimer.engine").exception("request %s could not be taken out in order", "r-1")
    logging.getLogger("lorimer.worker").info("claimed %s", "job-1")
    logging.getLogger("urllib3").info("not worth a line")
    failed, claimed = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (failed["logger"], failed["level"]) == ("lorimer.engine", "error")
    assert failed["event"] == "request r-1 could not be taken out in order"
    assert failed["exception"].endswith("KeyError")
    assert "somebody's words" not in stream.getvalue()
    assert claimed["event"] == "claimed job-1"
    assert claimed["timestamp"]


def line(trace: Trace, status: int = 200, requests: Counter | None = None, **scope: Any) -> dict[str, Any]:
    stream = io.StringIO()
    whole = {"method": "POST", "path": "/v1/x", "headers": [], "state": {}, **scope}
    RequestLog(request_log(stream), requests).write(whole, trace, status)
    told: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return told


def test_the_trace_is_ours_or_the_callers() -> None:
    given = [(b"traceparent", TRACEPARENT)]
    assert line(begin(None), headers=given)["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert line(begin(None), headers=given, state={TRACE_ID: "ours"})["trace_id"] == "ours"
    for bad in (b"", b"00-zz-00-01", TRACEPARENT.replace(b"4bf92f3577b34da6a3ce929d0e0e4736", b"0" * 32)):
        assert "trace_id" not in line(begin(None), headers=[(b"traceparent", bad)])


def test_a_refusal_is_told_by_kind_code_and_parameter_and_a_failure_by_its_words() -> None:
    refused, failed = begin(None), begin(None)
    refused.failure = Invalid("'my words' is no temperature", param="temperature", code="invalid_value")
    told = line(refused, 400)
    assert (told["error"], told["code"], told["param"]) == ("Invalid", "invalid_value", "temperature")
    assert "my words" not in json.dumps(told)
    failed.failure = Corrupt("t/acme/a/x/log/1 is damaged")
    assert line(failed, 500)["error"] == "Corrupt: t/acme/a/x/log/1 is damaged"
    odd = begin(None)
    odd.failure = Invalid("unknown", param="my words are no name")
    assert "param" not in line(odd, 400)


def test_routes_and_methods_are_counted_in_few_series() -> None:
    requests = Counter("requests", "x", ("method", "route", "status"), registry=(registry := CollectorRegistry()))
    for number in range(30):
        line(begin(None), 404, requests, path=f"/guess/{number}", method=f"M{number}")
    line(begin(None), 200, requests, path_template="/v1/models/{model:path}", method="GET")
    (family,) = registry.collect()
    counted = {
        tuple(sample.labels.values()): sample.value for sample in family.samples if sample.name.endswith("total")
    }
    assert counted == {("other", "(none)", "404"): 30, ("GET", "/v1/models/{model:path}", "200"): 1}


def test_a_line_says_who_asked_by_which_route(running: Running) -> None:
    running.http.get("/v1/models/alpha", headers={"x-request-id": "who-1"})
    wait_for(running, "request")
    told = next(each for each in running.logged() if each.get("request_id") == "who-1")
    assert (told["tenant"], told["key"], told["route"]) == ("default", "local", "/v1/models/{model}")
    assert running.http.get("/nowhere", headers={"x-request-id": "who-2"}).status_code == 404
    text = running.http.get("/metrics").text
    assert 'lorimer_http_requests_total{method="GET",route="/v1/models/{model}",status="200"}' in text
    assert 'lorimer_http_requests_total{method="GET",route="(none)",status="404"}' in text


def test_levels() -> None:
    stream = io.StringIO()
    request_log(stream, "warning").info("request")
    request_log(stream, "warning").warning("damaged")
    assert [json.loads(each)["event"] for each in stream.getvalue().splitlines()] == ["damaged"]

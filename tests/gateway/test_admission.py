"""Limits, the queue and deadlines over HTTP: what is refused, with which status, and when a retry succeeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from registry.keys import Grants, KeyLog, Limits
from tests.gateway.conftest import run

if TYPE_CHECKING:
    from serving.base import Base
    from tests.gateway.conftest import Running

LONG = {"max_tokens": 400, "ignore_eos": True}


@pytest.fixture(scope="module")
def guarded(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway of our own: where there are keys, nobody is let in without one."""
    yield from run(tiny_base, tmp_path_factory.mktemp("guarded"))


def key(running: Running, tenant: str | None = None, **limits: int) -> dict[str, str]:
    """A new key's header, once the gateway knows it."""
    grants = Grants(
        name=f"k{time.monotonic_ns()}",
        tenant=tenant or running.registry.tenant,
        scopes=frozenset({"infer"}),
        limits=Limits(**limits),
    )
    _, secret = KeyLog.of(running.registry).create(grants)
    header = {"authorization": f"Bearer {secret}"}
    until = time.monotonic() + 5
    while (status(running, {}), status(running, header)) != (401, 200):  # the first key shuts the door to others
        assert time.monotonic() < until
        time.sleep(0.05)
    return header


def status(running: Running, headers: dict[str, str]) -> int:
    return running.http.get("/v1/models", headers=headers).status_code


def ask(running: Running, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": running.base_name, "prompt": "hello", "max_tokens": 4, "temperature": 0, **fields}
    return running.http.post("/v1/completions", json=body, headers=headers)


def settle(running: Running) -> None:
    """Wait until nothing runs: by the gateway's account and by the engine's."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        stats = running.gateway.engine.stats()
        if not (stats.running or stats.waiting or running.gateway.admission.places.open):
            return
        time.sleep(0.005)
    raise AssertionError(f"{running.gateway.engine.stats()}, {running.gateway.admission.places.held}")


@contextmanager
def busy(running: Running, rows: int, headers: dict[str, str] | None = None) -> Iterator[None]:
    """So many long answers under way, until left."""
    clients = [httpx.Client(base_url=running.server.url, timeout=60) for _ in range(rows)]
    body = {"model": running.base_name, "prompt": "x", "stream": True, **LONG}
    streams = []
    try:
        for client in clients:
            request = client.build_request("POST", "/v1/completions", json=body, headers=headers)
            streams.append(client.send(request, stream=True))
        assert {each.status_code for each in streams} == {200}
        yield
    finally:
        for each in streams:
            each.close()
        for client in clients:
            client.close()
        settle(running)


@pytest.fixture
def small(start: Callable[..., Running]) -> Running:
    return start(max_batch=2, max_waiting=2)


def test_requests_a_minute(guarded: Running) -> None:
    headers = key(guarded, requests_per_minute=60)
    answers = [ask(guarded, headers) for _ in range(61)]
    refused = [each for each in answers if each.status_code == 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "60"
    assert int(answers[0].headers["x-ratelimit-remaining-requests"]) == 59
    assert refused or int(answers[-1].headers["x-ratelimit-remaining-requests"]) <= 1
    while not refused:
        answer = ask(guarded, headers)
        refused = [answer] if answer.status_code == 429 else []
    error = refused[0].json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("rate_limit_exceeded", "requests", None)
    assert refused[0].headers["x-ratelimit-remaining-requests"] == "0"
    assert refused[0].headers["retry-after"] == "1"
    time.sleep(1)
    assert ask(guarded, headers).status_code == 200


def test_tokens_a_minute_are_counted_as_used(guarded: Running) -> None:
    headers = key(guarded, tokens_per_minute=6000)
    answer = ask(guarded, headers, max_tokens=50, stop=["\n"])
    settle(guarded)
    used = answer.json()["usage"]["total_tokens"]
    after = ask(guarded, headers, max_tokens=1).headers
    assert 6000 - used - 10 <= int(after["x-ratelimit-remaining-tokens"]) <= 6000
    assert after["x-ratelimit-limit-tokens"] == "6000"
    ids = [5] * 900
    answers = [ask(guarded, headers, prompt=ids) for _ in range(8)]
    refused = next(each for each in answers if each.status_code == 429)
    assert refused.json()["error"]["type"] == "tokens"
    time.sleep(int(refused.headers["retry-after"]))
    assert ask(guarded, headers, prompt=ids).status_code == 200


def test_a_request_beyond_the_limit_is_told_never_to_come_back(guarded: Running) -> None:
    refused = ask(guarded, key(guarded, tokens_per_minute=100), max_tokens=500)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers


def test_so_many_at_once(guarded: Running) -> None:
    headers = key(guarded, concurrency=2)
    with busy(guarded, 2, headers):
        refused = ask(guarded, headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert ask(guarded, key(guarded)).status_code == 200
    assert ask(guarded, headers).status_code == 200


def test_a_refused_request_uses_nothing_up(guarded: Running) -> None:
    headers = key(guarded, requests_per_minute=60)
    before = int(ask(guarded, headers).headers["x-ratelimit-remaining-requests"])
    assert ask(guarded, headers, n=10_000_000).status_code == 400
    assert int(ask(guarded, headers).headers["x-ratelimit-remaining-requests"]) >= before - 1


def test_a_full_queue_refuses_before_any_text_is_read(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with busy(small, 4):
        monkeypatch.setattr(small.gateway.reading, "prompts", None)
        refused = ask(small)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    monkeypatch.undo()
    assert ask(small).status_code == 200


def test_more_answers_than_there_are_places(small: Running) -> None:
    refused = ask(small, n=5)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")


def test_a_flood_of_one_tenant_leaves_room_for_another(start: Callable[..., Running]) -> None:
    running = start(max_batch=2, max_waiting=34)
    flooding, quiet = key(running, "flooding"), key(running, "quiet")
    statuses: list[int] = []

    def flood() -> None:
        with httpx.Client(base_url=running.server.url, timeout=120) as client:
            body = {"model": running.base_name, "prompt": "x", "max_tokens": 40, "ignore_eos": True}
            statuses.append(client.post("/v1/completions", json=body, headers=flooding).status_code)

    threads = [threading.Thread(target=flood) for _ in range(60)]
    for each in threads:
        each.start()
    until = time.monotonic() + 20
    while running.gateway.admission.places.held["flooding"] < 32:
        assert time.monotonic() < until
        time.sleep(0.002)
    assert ask(running, quiet).status_code == 200
    for each in threads:
        each.join()
    assert set(statuses) == {200, 503}
    settle(running)


def test_a_deadline_ends_a_request_that_runs(running: Running) -> None:
    since = time.monotonic()
    refused = ask(running, {"x-request-timeout": "0.2"}, n=16, **LONG)
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    assert 0.15 < time.monotonic() - since < 2
    settle(running)


def test_a_deadline_is_an_error_in_a_stream(running: Running) -> None:
    body = {"model": running.base_name, "prompt": "x", "stream": True, "n": 16, **LONG}
    headers = {"x-request-timeout": "0.3"}
    with running.http.stream("POST", "/v1/completions", json=body, headers=headers) as response:
        lines = [line for line in response.iter_lines() if line]
    assert '"deadline_exceeded"' in lines[-1]


def test_what_is_too_late_is_dropped_before_its_prompt_is_computed(small: Running) -> None:
    with busy(small, 2):
        before = small.gateway.engine.stats().prompt_tokens
        refused = ask(small, {"x-request-timeout": "0.1"}, prompt=[5] * 500, max_tokens=1)
        assert refused.status_code == 504
        assert small.gateway.engine.stats().prompt_tokens - before < 500


def test_a_deadline_bounds_the_loading_of_an_adapter_too(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    running.publish("slow", 3)
    monkeypatch.setattr(running.gateway.residency, "request", _never(running.gateway.residency.request))
    refused = ask(running, {"x-request-timeout": "0.2"}, model="slow")
    assert refused.status_code == 504
    settle(running)


def _never(request: Callable[..., Any]) -> Callable[..., Any]:
    from concurrent.futures import Future

    return lambda *_: Future()


def test_a_deadline_that_is_far_enough_changes_nothing(running: Running) -> None:
    assert ask(running, {"x-request-timeout": "30"}).status_code == 200


def test_a_deadline_that_has_passed_already_is_not_blamed_on_the_queue(running: Running) -> None:
    refused = ask(running, {"x-request-timeout": "1e-9"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert "retry-after" not in refused.headers


def test_under_overload_every_refusal_says_when_and_a_retry_succeeds(start: Callable[..., Running]) -> None:
    running = start(max_batch=4, max_waiting=8)
    statuses: list[int] = []

    def insist() -> None:
        with httpx.Client(base_url=running.server.url, timeout=120) as client:
            body = {"model": running.base_name, "prompt": "x", "max_tokens": 20, "ignore_eos": True}
            for _ in range(30):
                response = client.post("/v1/completions", json=body)
                statuses.append(response.status_code)
                if response.status_code == 200:
                    return
                time.sleep(int(response.headers["retry-after"]))

    with ThreadPoolExecutor(40) as pool:
        for each in [pool.submit(insist) for _ in range(40)]:
            each.result()
    assert statuses.count(200) == 40
    assert set(statuses) == {200, 503}
    settle(running)

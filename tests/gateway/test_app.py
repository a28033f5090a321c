"""Default deny: every route there is, walked without a key, with a wrong one and with the right one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
from litestar.routes import HTTPRoute

from serving.gateway.app import create_app

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

KEY = "sk-tests"
OPEN = {"/health", "/ready"}


def routes(running: Running) -> Iterator[tuple[str, str]]:
    for route in create_app(running.gateway).routes:
        assert isinstance(route, HTTPRoute), "a kind of route this test does not know how to knock at"
        for method in route.methods - {"OPTIONS"}:
            path = route.path_format.replace("{name}", "alpha").replace("{alias}", "prod")
            yield method, path.replace("{model}", "x")


def test_every_route_but_the_probes_needs_a_key(start: Callable[..., Running]) -> None:
    running = start(api_key_hashes=hashlib.sha256(KEY.encode()).hexdigest())
    walked = [*routes(running)]
    assert len(walked) >= 15
    for method, path in walked:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            response = running.http.request(method, path, headers=headers)
            assert (response.status_code == 401) is (path not in OPEN), (method, path)
            if path not in OPEN:
                assert response.headers["www-authenticate"] == "Bearer"
        with_key = running.http.request(method, path, headers={"authorization": f"Bearer {KEY}"})
        assert with_key.status_code not in (401, 403, 500), (method, path)


def test_a_body_is_not_read_before_the_key(start: Callable[..., Running]) -> None:
    running = start(api_key_hashes=hashlib.sha256(KEY.encode()).hexdigest())
    response = httpx.post(f"{running.server.url}/v1/chat/completions", content=b"{")
    assert response.status_code == 401

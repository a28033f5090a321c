"""Default deny: every route there is, walked without a credential, with useless ones, and with each scope alone."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

import httpx
import pytest
from litestar.routes import HTTPRoute

from registry.keys import Grants, KeyLog, Scope
from serving.gateway.access import ANY, OPERATOR, PUBLIC, READ, scopes_of
from serving.gateway.app import create_app

if TYPE_CHECKING:
    from serving.base import Base
    from tests.gateway.conftest import Running

INFER, PROMOTE, TRAIN, ADMIN = (("infer",), ("promote",), ("train",), ("admin",))
WHO_MAY = {
    "GET /health": None,
    "GET /ready": None,
    "GET /openapi.json": None,
    "GET /version": ANY,
    "GET /metrics": ANY,
    "POST /v1/chat/completions": INFER,
    "POST /v1/completions": INFER,
    "POST /v1/embeddings": INFER,
    "POST /v1/tokenize": INFER,
    "POST /v1/detokenize": INFER,
    "POST /tokenize": INFER,
    "POST /detokenize": INFER,
    "POST /v1/responses": INFER,
    "POST /v1/load_lora_adapter": ADMIN,
    "POST /v1/unload_lora_adapter": ADMIN,
    "GET /v1/models": INFER,
    "GET /v1/models/{model}": INFER,
    "POST /v1/feedback": INFER,
    "POST /v1/files": TRAIN,
    "GET /v1/files": TRAIN,
    "GET /v1/files/{file_id}": TRAIN,
    "GET /v1/files/{file_id}/content": TRAIN,
    "DELETE /v1/files/{file_id}": TRAIN,
    "POST /v1/fine_tuning/jobs": TRAIN,
    "GET /v1/fine_tuning/jobs": TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}": TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/pause": TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/resume": TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/events": TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": TRAIN,
    "GET /api/adapters": READ,
    "GET /api/adapters/{name}": READ,
    "GET /api/adapters/{name}/log": READ,
    "POST /api/adapters/{name}/aliases/{alias}": PROMOTE,
    "POST /api/adapters/{name}/aliases/{alias}/rollback": PROMOTE,
    "GET /api/adapters/{name}/captures": TRAIN,
    "GET /api/adapters/{name}/captures/export": TRAIN,
    "GET /api/captures/erasures": ADMIN,
    "POST /api/captures/expire": ADMIN,
    "POST /api/captures/forget": ADMIN,
    "GET /api/audit": ADMIN,
    "GET /api/drift": READ,
    "GET /api/jobs": READ,
    "GET /api/quarantine": READ,
    "POST /api/quarantine/{digest}/release": ADMIN,
}
"""Written down a second time, so that nobody opens a route by a slip: None is open to everybody."""
ONLY_FOR_THE_OPERATOR = {"GET /metrics"}
SCOPES = get_args(Scope)


def routes(running: Running) -> Iterator[tuple[str, tuple[str, ...] | None, bool]]:
    """What each route itself says: its name, who may use it, and whether it is for the gateway's own tenant."""
    for route in create_app(running.gateway).routes:
        assert isinstance(route, HTTPRoute), "a kind of route this test does not know how to knock at"
        for handler in route.route_handlers:
            for method in handler.http_methods - {"OPTIONS"}:
                scopes = None if handler.opt.get(PUBLIC) else scopes_of(handler)
                yield f"{method} {route.path_format}", scopes, bool(handler.opt.get(OPERATOR))


def knock(running: Running, route: str, secret: str | None) -> httpx.Response:
    """At a place that does not exist, with a body that says nothing: who is let in is told before that matters."""
    method, path = route.split(" ")
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    return running.http.request(method, re.sub(r"\{\w+\}", "nowhere", path), headers=headers)


class Keys(dict[str, str]):
    """Secrets by what they are good for."""


@pytest.fixture(scope="module")
def guarded(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Keys]]:
    from tests.gateway.conftest import run

    bootstrap = "sk-tests"
    hashes = hashlib.sha256(bootstrap.encode()).hexdigest()
    for running in run(tiny_base, tmp_path_factory.mktemp("guarded"), api_key_hashes=hashes):
        log, made = KeyLog.of(running.registry), Keys(bootstrap=bootstrap)

        def make(name: str, *scopes: Scope, tenant: str = "default", log: KeyLog = log, made: Keys = made) -> None:
            grants = Grants(name=name, tenant=tenant, scopes=frozenset(scopes), expires_at=time.time() + 3600)
            made[name] = log.create(grants)[1]

        for scope in SCOPES:
            make(scope, scope)
        make("none")
        make("stranger", *SCOPES, tenant="elsewhere")
        make("revoked", *SCOPES)
        log.revoke("default", "revoked")
        while knock(running, "GET /version", made["stranger"]).status_code != 200:
            time.sleep(0.05)
        yield running, made


def test_who_may_use_a_route_is_what_is_written_down(guarded: tuple[Running, Keys]) -> None:
    said = {route: scopes for route, scopes, _ in routes(guarded[0])}
    assert said == WHO_MAY, "a new route: write down here who may use it"
    assert {route for route, _, is_for_operator in routes(guarded[0]) if is_for_operator} == ONLY_FOR_THE_OPERATOR


@pytest.mark.parametrize("secret", [None, "wrong", "revoked"])
def test_without_a_valid_credential_every_route_but_the_open_ones_is_shut(
    guarded: tuple[Running, Keys], secret: str | None
) -> None:
    running, keys = guarded
    for route, who in WHO_MAY.items():
        response = knock(running, route, None if secret is None else keys.get(secret, secret))
        assert (response.status_code == 401) is (who is not None), route
        if who is not None:
            challenge = "Bearer" if secret is None else 'Bearer error="invalid_token"'
            assert response.headers["www-authenticate"] == challenge


@pytest.mark.parametrize("scope", [*SCOPES, "none"])
def test_each_scope_alone_opens_its_routes_and_no_others(guarded: tuple[Running, Keys], scope: str) -> None:
    running, keys = guarded
    for route, who in WHO_MAY.items():
        response = knock(running, route, keys[scope])
        if not who or scope in who:
            assert response.status_code not in (401, 403, 500), route
            continue
        assert response.status_code == 403, route
        assert f"needs the scope {' or '.join(who)}" in response.text
        assert response.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{" ".join(who)}"'
        assert response.headers["x-should-retry"] == "false"


def test_all_scopes_of_another_tenant_do_not_open_what_concerns_all_tenants(guarded: tuple[Running, Keys]) -> None:
    running, keys = guarded
    for route in WHO_MAY:
        status = knock(running, route, keys["stranger"]).status_code
        assert (status == 403) is (route in ONLY_FOR_THE_OPERATOR), route
        assert knock(running, route, keys["bootstrap"]).status_code not in (401, 403, 500), route


def test_what_may_be_asked_of_a_route_is_no_secret_to_nobody_without_a_key(guarded: tuple[Running, Keys]) -> None:
    assert knock(guarded[0], "OPTIONS /v1/models", None).status_code == 401
    assert knock(guarded[0], "OPTIONS /v1/models", guarded[1]["none"]).headers["allow"] == "GET, OPTIONS"


def test_a_path_with_several_methods_tells_all_of_them(guarded: tuple[Running, Keys]) -> None:
    running, keys = guarded
    for path, allowed in (("/v1/files", "GET, OPTIONS, POST"), ("/v1/files/{file_id}", "DELETE, GET, OPTIONS")):
        assert knock(running, f"OPTIONS {path}", None).status_code == 401
        assert knock(running, f"OPTIONS {path}", keys["none"]).headers["allow"] == allowed


def test_a_body_is_not_read_before_the_key(guarded: tuple[Running, Keys]) -> None:
    response = httpx.post(f"{guarded[0].server.url}/v1/chat/completions", content=b"{")
    assert response.status_code == 401

"""Which addresses may be bound, what is let in, and that no route can be forgotten."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from litestar import Litestar, get

from registry.adapters import Registry
from registry.errors import Invalid, Refused, Unavailable
from registry.keys import SCOPES, Grants, KeyLog, KeyRing, Limits
from registry.settings import Settings
from registry.store import open_store
from serving.gateway.access import check_routes, is_loopback, require_guarded, require_local
from serving.gateway.credentials import Credentials, is_guarded, open_credentials
from serving.gateway.errors import Forbidden, ModelForbidden, Unauthorized
from serving.gateway.gateway import request_log
from serving.gateway.keyring import STALE_S, Keyring
from serving.gateway.principal import Principal

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

KEY = "sk-lorimer"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
SEEN_S = 1.5
"""A change of the keys counts everywhere within this long."""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    opened = Registry(open_store(f"file://{tmp_path}/store"), "home", actor="tests")
    opened.init()
    return opened


@pytest.fixture
def credentials(registry: Registry) -> Iterator[Callable[..., Credentials]]:
    opened: list[Credentials] = []

    def open_one(**settings: Any) -> Credentials:
        opened.append(open_credentials(Settings(tenant="home", **settings), registry, request_log(io.StringIO())))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def grants(name: str, tenant: str = "acme", **fields: Any) -> Grants:
    return Grants(name=name, tenant=tenant, scopes=frozenset(fields.pop("scopes", {"infer"})), **fields)


def who(credentials: Credentials, secret: str | None) -> Principal:
    return asyncio.run(credentials.principal(None if secret is None else f"Bearer {secret}"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    require_guarded(host, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])  # noqa: S104
def test_any_other_bind_without_keys_is_refused(host: str) -> None:
    with pytest.raises(Refused, match="lorimer keys create"):
        require_guarded(host, False)
    require_guarded(host, True)


@pytest.mark.parametrize(
    "setting", [{"api_key_hashes": HASH}, {"jwt_issuer": "https://i"}, {"tls_client_ca": "ca.pem"}]
)
def test_keys_tokens_and_client_certificates_guard_each(setting: dict[str, str], registry: Registry) -> None:
    assert not is_guarded(Settings(), KeyLog.of(registry).read())
    assert is_guarded(Settings(**setting), KeyRing())


def test_a_key_in_the_bucket_guards_and_so_does_one_that_was_revoked(registry: Registry) -> None:
    keys = KeyLog.of(registry)
    keys.create(grants("only"))
    keys.revoke("acme", "only")
    assert is_guarded(Settings(), keys.read()), "revoking the last key must not open the door"


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer {KEY} "])
def test_a_bootstrap_key_may_everything_in_the_gateways_own_tenant(
    credentials: Callable[..., Credentials], header: str
) -> None:
    found = asyncio.run(credentials(api_key_hashes=f"{'0' * 64}, {HASH.upper()}").principal(header))
    assert found == Principal(f"key:{HASH[:8]}", "home", SCOPES)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer nonsense", f"Basic {KEY}", KEY, HASH])
def test_anything_else_is_not_let_in(credentials: Callable[..., Credentials], header: str | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        asyncio.run(credentials(api_key_hashes=HASH).principal(header))
    assert ("invalid_token" in caught.value.challenge) is (header == "Bearer nonsense")


def test_a_key_in_the_clear_is_not_taken_for_a_hash(credentials: Callable[..., Credentials]) -> None:
    with pytest.raises(Invalid):
        credentials(api_key_hashes=KEY)


def test_a_key_of_the_bucket_brings_its_tenant_scopes_limits_and_models(
    credentials: Callable[..., Credentials], registry: Registry
) -> None:
    wanted = grants("shop", scopes={"infer", "train"}, adapters=("support-*",), limits=Limits(concurrency=2))
    key, secret = KeyLog.of(registry).create(wanted)
    found = who(credentials(), secret)
    assert found == Principal(f"key:{key.id}", "acme", wanted.scopes, wanted.adapters, wanted.limits)


def test_expired_replaced_and_revoked_keys_are_told_what_is_wrong(
    credentials: Callable[..., Credentials], registry: Registry
) -> None:
    keys = KeyLog.of(registry)
    _, expired = keys.create(grants("short", expires_at=time.time() + 0.01))
    _, replaced = keys.create(grants("turned"))
    keys.rotate("acme", "turned", 0)
    _, revoked = keys.create(grants("bad"))
    keys.revoke("acme", "bad")
    time.sleep(0.02)
    for secret, why in ((expired, "expired"), (replaced, "replaced"), (revoked, "revoked")):
        with pytest.raises(Unauthorized, match=why):
            who(credentials(), secret)


def test_a_store_that_stays_away_does_not_keep_a_revoked_key_alive(registry: Registry) -> None:
    now = [0.0]
    _, secret = KeyLog.of(registry).create(grants("shop"))
    keyring = Keyring(KeyLog.of(registry), request_log(io.StringIO()), poll_s=3600, clock=lambda: now[0])
    keyring.start()
    found = Credentials(Settings(), keyring)
    try:
        now[0] = STALE_S
        assert who(found, secret).tenant == "acme"
        now[0] = STALE_S + 1
        with pytest.raises(Unavailable, match="cannot be checked"):
            who(found, secret)
    finally:
        keyring.close()


def test_with_client_certificates_alone_the_handshake_is_the_credential(
    credentials: Callable[..., Credentials], registry: Registry
) -> None:
    assert who(credentials(tls_client_ca="ca.pem"), None).id == "mtls"
    assert who(credentials(), None).id == "local"
    KeyLog.of(registry).create(grants("shop"))
    with pytest.raises(Unauthorized):
        who(credentials(tls_client_ca="ca.pem"), None)


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("support-de", True),
        ("support-de@v3", True),
        ("acme/support-de@canary", True),
        ("globex/shared", True),
        ("globex/support-de", False),
        ("sales", False),
        ("sales@support-de", False),
        ("the-base", False),
    ],
)
def test_a_key_may_be_limited_to_models_by_name(model: str, allowed: bool) -> None:
    principal = Principal("key:1", "acme", SCOPES, ("support-*", "globex/shared"))
    assert principal.may_use(model) is allowed
    assert Principal("key:1", "acme", SCOPES).may_use(model)
    if not allowed:
        with pytest.raises(ModelForbidden, match="support-"):
            principal.require_use(model)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", ""])
def test_without_keys_this_machine_is_called_by_its_own_names(host: str) -> None:
    require_local(host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[::1", "10.0.0.1"])
def test_without_keys_a_name_that_was_pointed_here_is_refused(host: str) -> None:
    with pytest.raises(Forbidden, match="by its own name"):
        require_local(host)


def test_a_web_page_elsewhere_cannot_use_a_gateway_on_this_machine(running: Running) -> None:
    """DNS rebinding: the page's own name comes to mean 127.0.0.1, so that its scripts may read what is answered."""
    seen = [running.http.get("/v1/models", headers={"host": host}) for host in ("evil.example", "localhost")]
    assert [answer.status_code for answer in seen] == [403, 200]


def test_an_application_with_a_route_that_names_no_scope_cannot_be_made() -> None:
    @get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(AssertionError, match="/forgotten: which scope"):
        check_routes(Litestar([forgotten], openapi_config=None))


def test_a_key_works_and_stops_working_on_every_gateway_within_moments(tiny_base: Any, tmp_path: Path) -> None:
    from tests.gateway.conftest import run

    gateways = [run(tiny_base, tmp_path), run(tiny_base, tmp_path)]
    both: list[Running] = [next(each) for each in gateways]
    try:
        keys = KeyLog.of(both[0].registry)
        _, secret = keys.create(grants("shop"))
        assert seen(both, secret, 200) < SEEN_S
        keys.revoke("acme", "shop")
        assert seen(both, secret, 401) < SEEN_S
    finally:
        for each in gateways:
            next(each, None)


def seen(gateways: list[Running], secret: str, status: int) -> float:
    """Seconds until every gateway answers like this."""
    since = time.monotonic()
    for each in gateways:
        while httpx.get(f"{each.server.url}/version", headers=bearer(secret)).status_code != status:
            assert time.monotonic() - since < 10
            time.sleep(0.02)
    return time.monotonic() - since


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}

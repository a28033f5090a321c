"""Tokens of an issuer: signed with real keys, fetched from a real server, and every way in which one can be wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from registry.errors import Invalid, Unavailable
from registry.keys import NO_LIMITS, Limits
from registry.settings import Settings
from serving.gateway.errors import Unauthorized
from serving.gateway.jwks import REFRESH_S, RETRY_S, STALE_S, Jwks, parse
from serving.gateway.jwt import Tokens, looks_like_token, open_tokens
from serving.gateway.principal import Principal

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

ISSUER, AUDIENCE = "https://issuer.example", "lorimer"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, kid: str, **fields: Any) -> dict[str, Any]:
    kinds: list[Any] = [(rsa.RSAPrivateKey, RSAAlgorithm), (ec.EllipticCurvePrivateKey, ECAlgorithm)]
    algorithm = next((made for kind, made in kinds if isinstance(key, kind)), OKPAlgorithm)
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **fields}


KEYS = [public(RSA, "rsa"), public(CURVE, "curve"), public(EDWARDS, "edwards")]


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    """A good token of ada's, but for what is said; a claim of None is left out."""
    now = time.time()
    values = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 300, "scope": "infer openid"} | claims
    kept = {name: value for name, value in values.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={} if kid is None else {"kid": kid})


def tokens(tmp_path: Path, keys: list[dict[str, Any]] = KEYS, **settings: Any) -> Tokens:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    given = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(path), "tenant": "home"} | settings
    opened = open_tokens(Settings(**given))
    assert opened is not None
    return opened


def who(checked: Tokens, presented: str) -> Principal:
    assert looks_like_token(presented)
    return asyncio.run(checked.principal(presented))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (CURVE, "ES256", "curve"), (EDWARDS, "EdDSA", "edwards")],
)
def test_a_good_token_is_who_it_says(tmp_path: Path, key: Any, algorithm: str, kid: str) -> None:
    # PyJWT ties a key of the set to the algorithm that the set names for it, or to the usual one of its kind.
    keys = [public(key, kid, alg=algorithm)]
    assert who(tokens(tmp_path, keys), token(key, algorithm, kid)) == Principal("jwt:ada", "home", frozenset({"infer"}))


def unsigned() -> str:
    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 300}, None, "none")


def signed_with_the_public_key() -> str:
    """The old trick: a symmetric signature, whose secret is the issuer's public key, which everybody has."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"rsa"}').rstrip(b"=").decode()
    mac = hmac.new(pem, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: token(OTHER), "verification failed"),
        (lambda: token(kid="unheard-of"), "none that its issuer lists"),
        (lambda: token(kid=None), "names none"),
        (lambda: token(exp=time.time() - 60), "expired"),
        (lambda: token(nbf=time.time() + 60), "not yet valid"),
        (lambda: token(iss="https://evil.example"), "issuer"),
        (lambda: token(iss=ISSUER + "/"), "issuer"),
        (lambda: token(aud="others"), "[Aa]udience"),
        (lambda: token(exp=None), "exp"),
        (lambda: token(aud=None), "aud"),
        (lambda: token(iss=None), "iss"),
        (lambda: token(sub=None), "sub"),
        (lambda: token(sub="a b\n"), "subject"),
        (lambda: token(sub="x" * 129), "subject"),
        (lambda: token(RSA, "RS512"), "alg"),
        (lambda: token()[:-8] + "AAAAAAAA", "verification failed"),
        (unsigned, "none that its issuer lists|alg"),
        (signed_with_the_public_key, "alg"),
        (lambda: "a.b.c", "not valid"),
    ],
)
def test_everything_else_is_refused_with_the_reason(tmp_path: Path, make: Callable[[], str], why: str) -> None:
    with pytest.raises(Unauthorized, match=why) as caught:
        who(tokens(tmp_path), make())
    assert "invalid_token" in caught.value.challenge


def test_clocks_may_differ_by_the_leeway_and_no_more(tmp_path: Path) -> None:
    checked = tokens(tmp_path, jwt_leeway_s=30)
    who(checked, token(exp=time.time() - 20))
    who(checked, token(nbf=time.time() + 20))
    with pytest.raises(Unauthorized):
        who(tokens(tmp_path, jwt_leeway_s=0), token(exp=time.time() - 20))


@pytest.mark.parametrize(
    ("settings", "claims", "scopes"),
    [
        ({}, {"scope": "infer promote email"}, {"infer", "promote"}),
        ({}, {"scope": None}, set()),
        ({}, {"scope": 7}, set()),
        ({"jwt_scope_claim": "roles"}, {"roles": ["admin", "x"]}, {"admin"}),
        ({"jwt_scope_prefix": "lorimer:"}, {"scope": "infer lorimer:train"}, {"train"}),
    ],
)
def test_scopes_come_from_the_claim_that_is_named(tmp_path: Path, settings: Any, claims: Any, scopes: set[str]) -> None:
    assert who(tokens(tmp_path, **settings), token(**claims)).scopes == scopes


def test_the_tenant_comes_from_its_claim_and_from_nowhere_else(tmp_path: Path) -> None:
    checked = tokens(tmp_path, jwt_tenant_claim="org")
    assert who(checked, token(org="acme")).tenant == "acme"
    for claims in ({}, {"org": "../home"}, {"org": ["acme"]}, {"org": ""}):
        with pytest.raises(Unauthorized, match="tenant"):
            who(checked, token(**claims))


def test_a_subject_has_the_limits_of_the_settings(tmp_path: Path) -> None:
    assert who(tokens(tmp_path), token()).limits == NO_LIMITS
    limited = tokens(tmp_path, jwt_requests_per_minute=60, jwt_concurrency=2)
    assert who(limited, token()).limits == Limits(requests_per_minute=60, concurrency=2)


def test_what_cannot_verify_signatures_is_no_key(tmp_path: Path) -> None:
    shared = {"kty": "oct", "kid": "shared", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}
    found = parse(
        json.dumps({"keys": [shared, public(RSA, "enc", use="enc"), public(CURVE, "sig", use="sig")]}).encode(), "x"
    )
    assert set(found) == {"sig", None}
    for broken in (b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": [7]}', b'{"keys": 7}', b"\xff"):
        with pytest.raises(Unavailable, match="no set of public keys"):
            parse(broken, "x")


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"jwt_audience": ""}, "jwt_audience"),
        ({"jwt_algorithms": "RS256, HS256"}, "jwt_algorithms"),
        ({"jwt_algorithms": "none"}, "jwt_algorithms"),
        ({"jwt_jwks": "http://issuer.example/keys"}, "jwt_jwks"),
        ({"jwt_issuer": "http://issuer.example", "jwt_jwks": ""}, "jwt_jwks"),
    ],
)
def test_settings_that_would_let_others_sign_are_invalid(settings: dict[str, str], param: str) -> None:
    given = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE} | settings
    with pytest.raises(Invalid) as caught:
        open_tokens(Settings(**given))
    assert caught.value.param == param


def test_a_missing_file_of_keys_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        open_tokens(Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=str(tmp_path / "nowhere")))


class Issuer:
    """An OpenID Connect issuer on this machine, as far as a gateway sees of one."""

    def __init__(self) -> None:
        self.keys = KEYS
        self.moves_keys_to = ""
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                described = {"issuer": issuer.url, "jwks_uri": issuer.moves_keys_to or f"{issuer.url}/keys"}
                found = {"/.well-known/openid-configuration": described, "/keys": {"keys": issuer.keys}}.get(self.path)
                self.send_response(302 if found is None else 200)
                self.send_header("location", f"{issuer.url}/keys")
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def discovering(issuer: Issuer, **settings: str) -> Tokens:
    opened = open_tokens(Settings(jwt_issuer=issuer.url, jwt_audience=AUDIENCE, **settings))
    assert opened is not None
    return opened


def test_the_issuer_is_asked_once_for_its_keys(issuer: Issuer) -> None:
    checked = discovering(issuer)

    async def often() -> None:
        presented = [checked.principal(token(iss=issuer.url)) for _ in range(20)]
        assert {principal.id for principal in await asyncio.gather(*presented)} == {"jwt:ada"}

    asyncio.run(often())
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


def test_an_issuer_that_keeps_its_keys_elsewhere_must_be_named_so(issuer: Issuer) -> None:
    issuer.moves_keys_to = "http://localhost:1/keys"
    with pytest.raises(Unavailable):
        who(discovering(issuer), token(iss=issuer.url))
    assert issuer.asked == ["/.well-known/openid-configuration"], "nobody else is asked"
    assert who(discovering(issuer, jwt_jwks=f"{issuer.url}/keys"), token(iss=issuer.url)).id == "jwt:ada"
    with pytest.raises(Unavailable):
        who(discovering(issuer, jwt_jwks=f"{issuer.url}/moved"), token(iss=issuer.url))
    assert issuer.asked[-1] == "/moved", "redirects are not followed"


class Source:
    """Where keys are read from, on a clock that stands."""

    def __init__(self) -> None:
        self.now, self.reads = 0.0, 0
        self.keys: list[dict[str, Any]] | None = KEYS

    def read(self) -> Any:
        self.reads += 1
        if self.keys is None:
            raise Unavailable("gone")
        return parse(json.dumps({"keys": self.keys}).encode(), "x")


def test_keys_rotate_without_a_restart_and_unknown_ids_cannot_hammer_the_issuer() -> None:
    source = Source()
    jwks = Jwks(source.read, lambda: source.now)

    async def story() -> None:
        assert await jwks.find("rsa") is not None
        for _ in range(100):
            assert await jwks.find("unheard-of") is None
        assert source.reads == 1
        source.keys = [public(OTHER, "new")]
        source.now += RETRY_S
        assert await jwks.find("new") is not None, "an id we do not know: look again"
        assert await jwks.find("rsa") is None, "what the issuer took back is forgotten"
        assert source.reads == 2

    asyncio.run(story())


def test_a_key_that_was_taken_back_is_forgotten_though_nobody_asks_for_another() -> None:
    source = Source()
    jwks = Jwks(source.read, lambda: source.now)

    async def story() -> None:
        assert await jwks.find("rsa") is not None
        source.keys, source.now = [public(OTHER, "new")], REFRESH_S + 1
        await jwks.find("rsa")
        while source.reads < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert await jwks.find("rsa") is None

    asyncio.run(story())


def test_an_issuer_that_is_away_delays_nobody_for_an_hour_and_then_nobody_is_let_in() -> None:
    source = Source()
    jwks = Jwks(source.read, lambda: source.now)

    async def story() -> None:
        assert await jwks.find("rsa") is not None
        source.keys = None
        source.now = STALE_S - 1
        assert await jwks.find("rsa") is not None
        source.now = STALE_S + RETRY_S
        with pytest.raises(Unavailable, match="cannot be read"):
            await jwks.find("rsa")

    asyncio.run(story())


def test_tokens_are_let_in_beside_keys_and_act_for_their_tenant(start: Callable[..., Running], issuer: Issuer) -> None:
    running = start(jwt_issuer=issuer.url, jwt_audience=AUDIENCE, jwt_tenant_claim="org")
    from tests.gateway.conftest import publisher

    acme = running.registry.of_tenant("acme")
    version = publisher(acme, running.base, Path(acme.store.url.removeprefix("file://")).parent / "acme")("support", 1)

    def ask(**claims: Any) -> Any:
        running.http.headers["authorization"] = f"Bearer {token(iss=issuer.url, **claims)}"
        return running.chat("support")

    assert ask(org="acme").headers["x-adapter-digest"] == version.digest
    assert ask(org="default").status_code == 404
    assert ask(org="acme", scope="train").status_code == 403
    expired = ask(org="acme", exp=time.time() - 60)
    assert (expired.status_code, expired.json()["error"]["code"]) == (401, "invalid_api_key")
    assert expired.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    del running.http.headers["authorization"]
    assert running.chat("support").status_code == 401
    assert "jwt:ada" in running.log.getvalue()
    assert token(iss=issuer.url)[:40] not in running.log.getvalue()

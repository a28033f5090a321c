"""OpenID Connect tokens: a signed claim of who calls, for which tenant, with which scopes. Knows no route.

Only what the settings name is believed: one issuer, one audience, asymmetric algorithms from a list. The network is
used for that issuer's keys alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import msgspec

from registry.errors import Invalid, Unavailable
from registry.keys import SCOPES, Limits
from registry.names import check_name
from registry.settings import Settings
from serving.gateway.errors import Unauthorized
from serving.gateway.jwks import Jwks, Keys, fetch, is_safe, parse
from serving.gateway.principal import Principal

ASYMMETRIC = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA")
)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SUBJECT = re.compile(r"[!-~]{1,128}")


class Tokens:
    """Checks tokens of the issuer that the settings name."""

    def __init__(self, settings: Settings, jwks: Jwks) -> None:
        self._settings = settings
        self._algorithms = algorithms(settings)
        self._jwks = jwks
        self._limits = Limits(
            requests_per_minute=settings.jwt_requests_per_minute or None,
            tokens_per_minute=settings.jwt_tokens_per_minute or None,
            concurrency=settings.jwt_concurrency or None,
        )

    async def principal(self, token: str) -> Principal:
        """Unauthorized, saying why, unless everything about the token is right."""
        try:
            header = jwt.get_unverified_header(token)
            key = await self._jwks.find(header.get("kid"))
            if key is None:
                named = f"kid {str(header['kid'])[:100]!r}" if "kid" in header else "it names none"
                raise Unauthorized(f"the token's key is none that its issuer lists: {named}", invalid=True)
            claims = jwt.decode(
                token,
                key,
                self._algorithms,
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=self._settings.jwt_leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the token is not valid: {error}", invalid=True) from error
        return self._principal(claims)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        if not _SUBJECT.fullmatch(subject := str(claims["sub"])):
            raise Unauthorized("the token's subject must be 1 to 128 visible ASCII characters", invalid=True)
        named = _words(claims.get(self._settings.jwt_scope_claim))
        prefix = self._settings.jwt_scope_prefix
        scopes = frozenset(scope for scope in SCOPES if prefix + scope in named)
        return Principal(f"jwt:{subject}", self._tenant(claims), scopes, limits=self._limits)

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        if not (claim := self._settings.jwt_tenant_claim):
            return self._settings.tenant
        try:
            return check_name(str(claims[claim]), "tenant")
        except (KeyError, Invalid) as error:
            raise Unauthorized(f"the token's claim {claim!r} names no tenant", invalid=True) from error


def looks_like_token(presented: str) -> bool:
    """Three parts with dots between, as no API key has."""
    return _TOKEN.fullmatch(presented) is not None


def open_tokens(settings: Settings) -> Tokens | None:
    """None where no issuer is named; a file of keys is read at once, to tell a mistake before the first request."""
    if not settings.jwt_issuer:
        return None
    if not settings.jwt_audience:
        raise Invalid("jwt_issuer needs jwt_audience: tokens for others must not count here", param="jwt_audience")
    algorithms(settings)
    source = settings.jwt_jwks
    if source and "://" not in source:
        _read_file(Path(source).expanduser())
        return Tokens(settings, Jwks(partial(_read_file, Path(source).expanduser())))
    if not is_safe(source or settings.jwt_issuer):
        hint = "whoever is in between could sign tokens"
        raise Invalid(f"{source or settings.jwt_issuer} is not https", hint=hint, param="jwt_jwks")
    return Tokens(settings, Jwks(partial(_read_url, source) if source else partial(_discover, settings.jwt_issuer)))


def algorithms(settings: Settings) -> list[str]:
    """Invalid for those by which whoever can check a token can also make one."""
    named = [each for each in re.split(r"[\s,]+", settings.jwt_algorithms) if each]
    for each in named:
        if each not in ASYMMETRIC:
            hint = f"one of {', '.join(sorted(ASYMMETRIC))}"
            raise Invalid(f"{each!r} is no algorithm for tokens of others", hint=hint, param="jwt_algorithms")
    return named


def _read_file(path: Path) -> Keys:
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error


def _read_url(url: str) -> Keys:
    return parse(fetch(url), url)


def _discover(issuer: str) -> Keys:
    """By the issuer's own description of itself, which must name keys on the issuer's own host."""
    where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        described: Any = msgspec.json.decode(fetch(where))
        named, url = str(described["issuer"]), str(described["jwks_uri"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise Unavailable(f"{where} describes no issuer: {error}") from error
    if named != issuer:
        raise Unavailable(f"{where} describes {named}, not {issuer}")
    if urlsplit(url).netloc != urlsplit(issuer).netloc:
        raise Unavailable(f"{issuer} keeps its keys elsewhere, at {url}", hint="if that is right: jwt_jwks")
    return _read_url(url)


def _words(claim: object) -> frozenset[str]:
    """Scopes come as words in one text, or as a list."""
    listed = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(str(each) for each in listed)

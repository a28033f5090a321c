"""From what a request presents to whom it comes from: API keys, tokens of an issuer, the TLS handshake.

Knows no route and no scope. Without any way to check a caller, only this machine may call.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from registry.adapters import Registry
from registry.errors import Invalid
from registry.keys import SCOPES, KeyLog, KeyRing
from registry.settings import Settings
from serving.gateway.errors import Unauthorized
from serving.gateway.jwt import Tokens, looks_like_token, open_tokens
from serving.gateway.keyring import Keyring
from serving.gateway.principal import Principal

LOCAL, MTLS = "local", "mtls"


class Credentials:
    """`clock` is the one by which keys expire."""

    def __init__(self, settings: Settings, keyring: Keyring, clock: Callable[[], float] = time.time) -> None:
        self._tenant = settings.tenant
        self._bootstrap = bootstrap_hashes(settings)
        self._keyring = keyring
        self._tokens: Tokens | None = open_tokens(settings)
        self._trusts_tls = bool(settings.tls_client_ca)
        self._clock = clock

    @property
    def are_needed(self) -> bool:
        """Whether a request must present a key or a token."""
        return bool(self._bootstrap) or self._tokens is not None or self._keyring.is_used

    @property
    def are_checked(self) -> bool:
        """Whether anything at all is checked, if only in the TLS handshake."""
        return self.are_needed or self._trusts_tls

    async def principal(self, authorization: str | None) -> Principal:
        """Unauthorized unless the header is `Bearer` and something we know."""
        if not self.are_needed:
            return Principal(MTLS if self._trusts_tls else LOCAL, self._tenant, SCOPES)
        scheme, _, presented = (authorization or "").partition(" ")
        presented = presented.strip()
        if scheme.lower() != "bearer" or not presented:
            raise Unauthorized("an API key is needed: send `Authorization: Bearer <key>`")
        if self._tokens is not None and looks_like_token(presented):
            return await self._tokens.principal(presented)
        return self._of_key(hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest())

    def close(self) -> None:
        self._keyring.close()

    def _of_key(self, hash: str) -> Principal:
        if hash in self._bootstrap:
            return Principal(f"key:{hash[:8]}", self._tenant, SCOPES)
        key = self._keyring.find(hash)
        if key is None:
            raise Unauthorized("this API key is not known here", invalid=True)
        if (refusal := key.refusal(hash, self._clock())) is not None:
            raise Unauthorized(f"this API key ({key.id}) {refusal}", invalid=True)
        grants = key.grants
        return Principal(f"key:{key.id}", grants.tenant, grants.scopes, grants.adapters, grants.limits)


def open_credentials(settings: Settings, registry: Registry, log: FilteringBoundLogger) -> Credentials:
    """Reads the keys there are and follows them from now on; to be closed."""
    keyring = Keyring(KeyLog.of(registry), log)
    credentials = Credentials(settings, keyring, registry.clock)
    keyring.start()
    return credentials


def is_guarded(settings: Settings, ring: KeyRing) -> bool:
    """Whether a gateway with these settings and keys would check who calls."""
    return bool(bootstrap_hashes(settings) or settings.jwt_issuer or settings.tls_client_ca or ring.keys)


def bootstrap_hashes(settings: Settings) -> frozenset[str]:
    """The keys of the settings: they have every scope in the gateway's own tenant."""
    hashes = frozenset(each for each in re.split(r"[\s,]+", settings.api_key_hashes.lower()) if each)
    for each in hashes:
        if not re.fullmatch(r"[0-9a-f]{64}", each):
            raise Invalid("api_key_hashes takes SHA-256 hashes in hex, separated by commas", param="api_key_hashes")
    return hashes

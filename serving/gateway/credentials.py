"""From what a request presents to whom it comes from: the API keys that are let in. Knows no route and no scope."""

from __future__ import annotations

import hashlib
import hmac
import re

from registry.errors import Invalid
from registry.keys import SCOPES
from serving.gateway.errors import Unauthorized
from serving.gateway.principal import Principal


class Credentials:
    """Bootstrap keys are known by their SHA-256 only. Without any credential, only this machine may call."""

    def __init__(self, hashes: str, tenant: str) -> None:
        self._tenant = tenant
        self._hashes = tuple(each for each in re.split(r"[\s,]+", hashes.lower()) if each)
        for each in self._hashes:
            if not re.fullmatch(r"[0-9a-f]{64}", each):
                raise Invalid("api_key_hashes takes SHA-256 hashes in hex, separated by commas", param="api_key_hashes")

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def principal(self, authorization: str | None) -> Principal:
        """Unauthorized unless the header is `Bearer` and a known key; passes everything when no key is configured."""
        if not self._hashes:
            return Principal("local", self._tenant, SCOPES)
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("an API key is needed: send `Authorization: Bearer <key>`")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        if not any(hmac.compare_digest(given, known) for known in self._hashes):
            raise Unauthorized("this API key is not known here")
        return Principal(f"key:{given[:8]}", self._tenant, SCOPES)

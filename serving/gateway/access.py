"""Who may call: hashed API keys, default deny on every route. Knows nothing of what a route does."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from registry.errors import Invalid, Refused
from serving.gateway.errors import Unauthorized

PUBLIC = "public"
"""A route opens itself to everybody by carrying this option; all others need a key once there are keys."""


class Keys:
    """The API keys that are let in, known by their SHA-256 only. Without any, only this machine may call."""

    def __init__(self, hashes: str) -> None:
        self._hashes = tuple(each for each in re.split(r"[\s,]+", hashes.lower()) if each)
        for each in self._hashes:
            if not re.fullmatch(r"[0-9a-f]{64}", each):
                raise Invalid("api_key_hashes takes SHA-256 hashes in hex, separated by commas", param="api_key_hashes")

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def check(self, authorization: str | None) -> None:
        """Unauthorized unless the header is `Bearer` and a known key; passes everything when no key is configured."""
        if not self._hashes:
            return
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("an API key is needed: send `Authorization: Bearer <key>`")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        if not any(hmac.compare_digest(given, known) for known in self._hashes):
            raise Unauthorized("this API key is not known here")


def require_guarded(host: str, keys: Keys) -> None:
    """Refused when the address is reachable from elsewhere and nothing would check who calls."""
    if not keys and not is_loopback(host):
        raise Refused(
            f"binding {host} without API keys would open every adapter to the network",
            hint="bind 127.0.0.1, or set LORIMER_API_KEY_HASHES to the SHA-256 of a key",
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard on the whole application."""
    if not handler.opt.get(PUBLIC):
        connection.app.state.gateway.keys.check(connection.headers.get("authorization"))

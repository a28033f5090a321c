"""The public keys of a token issuer: read from a file or fetched from one place, kept, and fetched again in time.

A key that the issuer took back is forgotten within minutes. Tokens with unknown key ids cannot make us fetch more often
than every ten seconds, and a slow issuer delays nobody whose key is known. Knows no claims.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from jwt import PyJWK, PyJWKSet, PyJWTError

from registry.errors import Unavailable

RETRY_S = 10.0
REFRESH_S = 300.0
STALE_S = 3600.0
TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
SYMMETRIC = "oct"
"""A shared secret in a public set would let anybody sign."""

Keys = Mapping[str | None, PyJWK]


class Jwks:
    """`read` blocks and raises Unavailable; `clock` is monotonic. To be used on one event loop."""

    def __init__(self, read: Callable[[], Keys], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._keys: Keys = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> PyJWK | None:
        """The key with this id; without one, the only key there is. Unavailable when none can be had."""
        is_missing = kid not in self._keys or self._age_s() >= STALE_S
        if (is_missing or self._age_s() >= REFRESH_S) and self._clock() - self._tried_at >= RETRY_S:
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._refresh())
        if is_missing and self._reading is not None:
            await asyncio.shield(self._reading)
        if self._age_s() >= STALE_S:
            raise Unavailable("the issuer's keys cannot be read, so tokens cannot be checked")
        return self._keys.get(kid)

    def _age_s(self) -> float:
        return self._clock() - self._read_at

    async def _refresh(self) -> None:
        """Keeps what there is where nothing can be read; `find` says when that is too old."""
        try:
            self._keys = await asyncio.to_thread(self._read)
        except Unavailable:
            return
        self._read_at = self._clock()


def fetch(url: str) -> bytes:
    """The document at this very place: redirects are not followed."""
    if not is_safe(url):
        raise Unavailable(f"{url} is not https: whoever is in between could sign tokens")
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client, client.stream("GET", url) as response:
            response.raise_for_status()
            if response.is_redirect:
                raise Unavailable(f"{url} redirects elsewhere")
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"{url} answers more than {MAX_BYTES} bytes")
            return body
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url} cannot be read: {error}") from error


def is_safe(url: str) -> bool:
    """Whether what is fetched from there comes from there: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def parse(data: bytes, where: str) -> Keys:
    """By key id, what may verify signatures; a set of one key answers for tokens without an id too."""
    try:
        document: Any = msgspec.json.decode(data)
        listed = [each for each in document["keys"] if _verifies(each)]
        keys: dict[str | None, PyJWK] = {key.key_id: key for key in PyJWKSet(listed).keys}
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, PyJWTError) as error:
        raise Unavailable(f"{where} is no set of public keys: {error}") from error
    if len(keys) == 1:
        keys[None] = next(iter(keys.values()))
    return keys


def _verifies(key: Any) -> bool:
    return bool(key.get("kty") != SYMMETRIC and key.get("use", "sig") == "sig")

"""Names under which people and sessions are kept, so that who reads the bucket does not read who they are.

A keyed hash: the same name always gives the same pseudonym, on every gateway of the tenant, so what is kept of a
person can be found and removed when the name is given. The key lies in the bucket: it hides names from people who see
captures, exports and logs, not from one who can read the whole bucket and has names to try.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from threading import Lock

from registry.errors import Corrupt, LorimerError, Refused
from registry.names import check_name
from registry.store import Store, create_surely

KEY_BYTES = 32
LENGTH = 32
RETRY_S = 10.0


class Pseudonyms:
    """Of one tenant. `of` blocks on the store the first time, and raises what the store raises; after it, never."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._path = f"t/{check_name(tenant, 'tenant')}/pseudonyms/key"
        self._key: bytes | None = None
        self._again_at = 0.0
        self._lock = Lock()

    @property
    def ready(self) -> bool:
        """Whether `of` will not block."""
        return self._key is not None

    def prepare(self) -> bool:
        """Whether there is a key by now; one that could not be had is asked for again after a while. Never raises."""
        if self._key is None and time.monotonic() >= self._again_at:
            try:
                self._load()
            except LorimerError:
                self._again_at = time.monotonic() + RETRY_S
        return self.ready

    def of(self, name: str) -> str:
        """32 hex digits for any text at all."""
        key = self._key or self._load()
        return hmac.new(key, name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:LENGTH]

    def _load(self) -> bytes:
        with self._lock:
            if self._key is None:
                self._key = self._read() or self._make()
            return self._key

    def _read(self) -> bytes | None:
        if not self._store.exists(self._path):
            return None
        key = self._store.get(self._path)
        if len(key) != KEY_BYTES:
            raise Corrupt(f"{self._path} is damaged", hint="restore it: without it nobody's captures can be found")
        return key

    def _make(self) -> bytes:
        key = secrets.token_bytes(KEY_BYTES)
        try:
            return key if create_surely(self._store, self._path, key) else self._store.get(self._path)
        except Refused:  # nothing may be written here, so nothing will be found under these pseudonyms
            return key

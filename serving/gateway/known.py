"""The versions that requests chose lately, of all tenants, by digest: so that one can be fetched by its digest alone.

The same bytes may belong to several tenants; each has its own version of them, and any of those will do to fetch them.
Opens no file itself. Safe for threads.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock

from registry.adapters import Version
from registry.cache import AdapterCache
from registry.errors import NotFound

MAX_REMEMBERED = 16_384


class Known:
    """`clock` is monotonic."""

    def __init__(self, cache: AdapterCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._clock = clock
        self._chosen: OrderedDict[tuple[str, str], tuple[Version, float]] = OrderedDict()
        """Digest and tenant -> its version, and when it was chosen last; the latest at the end."""
        self._tenants: dict[str, list[str]] = {}
        """Digest -> the tenants that chose it, the latest at the end."""
        self._lock = Lock()

    def remember(self, version: Version) -> None:
        digest, tenant = version.digest, version.tenant
        with self._lock:
            self._chosen[digest, tenant] = version, self._clock()
            self._chosen.move_to_end((digest, tenant))
            tenants = self._tenants.setdefault(digest, [])
            if tenant in tenants:
                tenants.remove(tenant)
            tenants.append(tenant)
            while len(self._chosen) > MAX_REMEMBERED:
                self._forget(*self._chosen.popitem(last=False)[0])

    def find(self, digest: str, tenant: str) -> Version | None:
        """A tenant's version with these bytes, if it was chosen lately."""
        with self._lock:
            chosen = self._chosen.get((digest, tenant))
        return None if chosen is None else chosen[0]

    def name_of(self, digest: str) -> str:
        """`adapter@v3`; for bytes that several tenants have, and may call by different names, the digest."""
        with self._lock:
            names = {self._chosen[digest, tenant][0].name for tenant in self._tenants.get(digest, ())}
        return names.pop() if len(names) == 1 else digest[:19]

    def fetch(self, digest: str) -> Path:
        """The verified local directory of a version that was chosen before. Blocks on the store."""
        with self._lock:
            tenants = self._tenants.get(digest)
            version = self._chosen[digest, tenants[-1]][0] if tenants else None
        if version is None:
            raise NotFound(f"no request has chosen {digest}")
        return self._cache.path(version)

    def wanted(self, tenant: str, within_s: float, pinned: Collection[str]) -> list[Version]:
        """Versions of a tenant that were chosen within so many seconds, or are among the digests `pinned`."""
        since = self._clock() - within_s
        with self._lock:
            chosen = list(self._chosen.values())
        ours = [(version, at) for version, at in chosen if version.tenant == tenant]
        return [version for version, at in ours if at >= since or version.digest in pinned]

    def _forget(self, digest: str, tenant: str) -> None:
        self._tenants[digest].remove(tenant)
        if not self._tenants[digest]:
            del self._tenants[digest]

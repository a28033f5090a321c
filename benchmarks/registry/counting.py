"""Stores that count what is asked of them. Knows nothing of registries.

A directory is asked by calls; a listing counts once for each thousand keys begun. A bucket is asked by HTTP requests,
counted as they are sent, retries included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from registry.bucket import Bucket
from registry.s3 import S3Store
from registry.settings import Settings
from registry.store import Store

ASKING = ("create", "create_file", "upload", "put", "get", "chunks", "fetch", "exists", "folders", "delete")


class Counted:
    """A store whose calls are counted."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        if name in ASKING:
            self.requests += 1
        return getattr(self.inner, name)

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        self.requests += 1
        for number, key in enumerate(self.inner.list(prefix, start_after), 1):
            self.requests += number % 1000 == 0
            yield key


class CountedBucket(S3Store):
    """A fresh place below the bucket the settings name; every HTTP request is counted as it leaves."""

    def __init__(self, settings: Settings, place: str) -> None:
        where = urlsplit(settings.store)
        prefix = "/".join(filter(None, (where.path.strip("/"), place)))
        bucket = Bucket(
            where.netloc,
            prefix,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            addressing=settings.s3_addressing,
        )
        for client in (bucket.once, bucket.patient):
            client.meta.events.register("before-send.s3", self._count)
        super().__init__(bucket)
        self.requests = 0

    def _count(self, **_: Any) -> None:
        self.requests += 1

    def clear(self) -> None:
        """Take away what the benchmark wrote."""
        for key in [*self.list("t/")]:
            self.delete(key)

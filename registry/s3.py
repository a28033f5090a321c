"""A bucket as a store. Conditional writes use `If-None-Match: *`; nothing else is relied on.

Whether a create whose reply was lost took place is the Log's question, so creates are sent once. Reads, lists and
overwrites are retried, and a read that breaks off goes on where it stopped. `If-Match` is never used: some servers
ignore or refuse it.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from registry.bucket import Beyond, Bucket, Present
from registry.canonical import CHUNK_BYTES, sha256_file
from registry.errors import LorimerError, NotFound, Refused, Unavailable
from registry.file_slice import FileSlice
from registry.multipart import Multipart, Outcome
from registry.store import LARGE_BYTES, check_prefix, write_atomically

PART_BYTES = 8 << 20
REREAD_DELAYS_S = (0.1, 0.3, 1.0, 3.0)
"""Waits before a read goes on that broke off, and broke off again without bringing anything."""
CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".gz": "application/gzip",
}


class S3Store:
    """A bucket that exists."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        large_bytes: int = LARGE_BYTES,
        part_bytes: int = PART_BYTES,
        page_keys: int = 1000,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = bucket.url
        self._bucket = bucket
        self._large_bytes = large_bytes
        self._parts = Multipart(bucket, part_bytes)
        self._page_keys = page_keys
        self._sleep = sleep

    def create(self, key: str, data: bytes) -> bool:
        return self._create(key, data, hashlib.sha256(data).hexdigest()).created

    def create_file(self, key: str, path: Path) -> bool:
        return self._send(key, path, sha256_file(path), lambda _: None).created

    def upload(self, key: str, path: Path, sha256: str, sent: Callable[[int], None]) -> bool:
        """`create_file` for a key of our own: tells what went out, and whether the server checked the sha256."""
        return self._send(key, path, sha256, sent).vouched

    def unfinished(self, prefix: str) -> Iterator[str]:
        """Keys with this prefix whose upload in parts broke off; `upload` to such a key sends what is missing."""
        return self._parts.unfinished(check_prefix(prefix))

    def put(self, key: str, data: bytes) -> None:
        with self._bucket.errors("write", key, writing=True):
            self._bucket.patient.put_object(
                **self._bucket.place(key), Body=data, ContentType=_content_type(key), **self._bucket.encryption
            )

    def get(self, key: str) -> bytes:
        return b"".join(self.chunks(key))

    def chunks(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Survives connections that break: the next goes on where the last stopped. Large objects never change."""
        waits = iter(REREAD_DELAYS_S)
        while end is None or begin < end:
            try:
                for chunk in self._stream(key, begin, end):
                    begin, waits = begin + len(chunk), iter(REREAD_DELAYS_S)
                    yield chunk
                return
            except _Broken as broken:
                if (wait_s := next(waits, None)) is None:
                    raise Unavailable(f"reading {key} from {self.url} broke off: {broken}") from broken
                self._sleep(wait_s)

    def fetch(self, key: str, path: Path) -> None:
        write_atomically(path, self.chunks(key))

    def exists(self, key: str) -> bool:
        try:
            with self._bucket.errors("read", key):
                self._bucket.patient.head_object(**self._bucket.place(key))
        except NotFound:
            return False
        return True

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        for page in self._pages(prefix, StartAfter=self._bucket.prefix + start_after if start_after else ""):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self._bucket.prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, Delimiter="/"):
            for entry in page.get("CommonPrefixes", []):
                yield entry["Prefix"].removeprefix(self._bucket.prefix + prefix).removesuffix("/")

    def delete(self, key: str) -> None:
        with self._bucket.errors("delete", key), suppress(NotFound):
            self._bucket.patient.delete_object(**self._bucket.place(key))

    def another(self) -> S3Store:
        """The same place over connections of its own."""
        return S3Store(self._bucket.again())

    def refuses_wrong_sha256(self, key: str) -> bool:
        """Whether the server checks `x-amz-checksum-sha256`. Leaves `key` behind when it does not."""
        try:
            outcome = self._create(key, b"these bytes", hashlib.sha256(b"other bytes").hexdigest())
        except LorimerError:
            return True
        if outcome.vouched:  # uploads to such a server would not be read back
            raise Refused(f"{self.url} says that it checked a sha256, which was wrong", hint="use another server")
        return False

    def versioning(self) -> str:
        try:
            with self._bucket.errors("inspect"):
                return self._bucket.patient.get_bucket_versioning(Bucket=self._bucket.name).get("Status", "Off")
        except LorimerError:
            return "unknown"

    def server_time(self) -> float | None:
        """The server's clock, in whole seconds; None where it does not tell."""
        with suppress(LorimerError), self._bucket.errors("inspect"):
            answer = self._bucket.patient.head_bucket(Bucket=self._bucket.name)["ResponseMetadata"]
            return parsedate_to_datetime(answer["HTTPHeaders"]["date"]).timestamp()
        return None

    def _create(self, key: str, body: bytes | FileSlice, sha256: str) -> Outcome:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        try:
            with self._bucket.errors("write", key, writing=True):
                answer = self._bucket.once.put_object(
                    **self._bucket.place(key),
                    Body=body,  # type: ignore[arg-type]  # a slice is read, sought and measured, no more
                    IfNoneMatch="*",
                    ContentType=_content_type(key),
                    ChecksumSHA256=checksum,
                    **self._bucket.encryption,
                )
        except Present:
            return Outcome(created=False, vouched=False)
        return Outcome(created=True, vouched=answer.get("ChecksumSHA256") == checksum)

    def _send(self, key: str, path: Path, sha256: str, sent: Callable[[int], None]) -> Outcome:
        """One request for a small file. Parts for a large one: absence is checked before, and where the server
        knows how, at completion; keys of large files hold a tx, so nobody else writes them."""
        try:
            size = path.stat().st_size
            if size <= self._large_bytes:
                with FileSlice(path, 0, size, sent) as body:
                    return self._create(key, body if size else b"", sha256)
            if self.exists(key):
                return Outcome(created=False, vouched=False)
            return self._parts.send(key, path, sha256, _content_type(key), sent)
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error

    def _stream(self, key: str, begin: int, end: int | None) -> Iterator[bytes]:
        """One request's bytes; nothing where the object ends before `begin`."""
        wanted: Any = {"Range": f"bytes={begin}-{'' if end is None else end - 1}"} if begin or end is not None else {}
        try:
            with self._bucket.errors("read", key):
                body = self._bucket.patient.get_object(**self._bucket.place(key), **wanted)["Body"]
        except Beyond:
            return
        with closing(body):
            try:
                yield from body.iter_chunks(CHUNK_BYTES)
            except BotoCoreError as error:
                raise _Broken(str(error)) from error

    def _pages(self, prefix: str, **options: str) -> Iterator[Any]:
        pages = self._bucket.patient.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket.name,
            Prefix=self._bucket.prefix + check_prefix(prefix),
            PaginationConfig={"PageSize": self._page_keys},
            **{key: value for key, value in options.items() if value},  # type: ignore[arg-type]
        )
        with self._bucket.errors("list", prefix):
            yield from pages


class _Broken(Exception):
    """The connection went away in the middle of a body."""


def _content_type(key: str) -> str:
    return CONTENT_TYPES.get(Path(key).suffix, "application/octet-stream")

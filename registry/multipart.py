"""Large objects sent to a bucket in parts: several at a time, each with its sha256, continued where they broke off.

The server keeps the parts of an unfinished upload, so whoever sends the same file to the same key again (the next
attempt, or a process started later) asks which parts are there and sends the others. Nobody sees an unfinished
upload; a lifecycle rule of the bucket removes those that nobody continues (deploy/lifecycle.json).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.bucket import Bucket, NoSuchUpload, Present
from registry.canonical import CHUNK_BYTES
from registry.errors import Corrupt, LorimerError, Refused, Unavailable
from registry.file_slice import FileSlice
from registry.store import Uncertain

PARALLEL = 4
MAX_PARTS = 10_000


@dataclass(frozen=True)
class Part:
    """A slice of the file; `sha256` in base64, as S3 writes it."""

    number: int
    begin: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """Whether this upload made the object, and whether the server checked the sha256 of what it received."""

    created: bool
    vouched: bool


class Multipart:
    """Uploads to one bucket, `part_bytes` at a time. Memory does not grow with the size of parts."""

    def __init__(self, bucket: Bucket, part_bytes: int) -> None:
        self._bucket = bucket
        self._part_bytes = part_bytes

    def send(self, key: str, path: Path, sha256: str, content_type: str, sent: Callable[[int], None]) -> Outcome:
        """Create the object, continuing an unfinished upload to this key; Corrupt when the file is not `sha256`."""
        parts = self._plan(path, sha256)
        upload, there = self._begun(key, len(parts)) or (self._begin(key, content_type), {})

        def send(part: Part) -> tuple[dict[str, Any], bool]:
            if (record := _matching(there.get(part.number), part, path)) is not None:
                sent(part.size)
                return record, "ChecksumSHA256" in record
            return self._send_part(key, upload, part, path, sent)

        try:
            with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as pool:
                done = list(pool.map(send, parts))
            self._complete(key, upload, [record for record, _ in done])
        except Present:
            return Outcome(created=False, vouched=False)
        except NoSuchUpload as error:  # our own lost completion, or somebody removed it: the next attempt will see
            raise Uncertain(f"the upload of {key} in parts was ended meanwhile") from error
        return Outcome(created=True, vouched=all(vouched for _, vouched in done))

    def unfinished(self, prefix: str) -> Iterator[str]:
        """Keys with this prefix that have an unfinished upload, as far as the server tells."""
        with suppress(LorimerError):  # a server that does not list them costs only the continuation
            for upload in self._uploads(prefix):
                yield upload["Key"].removeprefix(self._bucket.prefix)

    def _plan(self, path: Path, sha256: str) -> list[Part]:
        """Cut the file into parts and hash them; the whole is hashed in the same pass."""
        whole = hashlib.sha256()
        parts: list[Part] = []
        begin, size = 0, path.stat().st_size
        part_bytes = max(self._part_bytes, -(-size // MAX_PARTS))
        with path.open("rb") as file:
            while begin < size:
                state, left = hashlib.sha256(), min(part_bytes, size - begin)
                while left and (data := file.read(min(left, CHUNK_BYTES))):
                    state.update(data)
                    whole.update(data)
                    left -= len(data)
                checksum = base64.b64encode(state.digest()).decode()
                parts.append(Part(len(parts) + 1, begin, min(part_bytes, size - begin), checksum))
                begin += part_bytes
        if whole.hexdigest() != sha256:
            raise Corrupt(f"{path} is not what was validated", hint="it changed while it was uploaded; push again")
        return parts

    def _begin(self, key: str, content_type: str) -> str:
        with self._bucket.errors("write", key, writing=True):
            return self._bucket.patient.create_multipart_upload(
                **self._bucket.place(key),
                ContentType=content_type,
                ChecksumAlgorithm="SHA256",
                **self._bucket.encryption,
            )["UploadId"]

    def _begun(self, key: str, num_parts: int) -> tuple[str, dict[int, Any]] | None:
        """The newest unfinished upload to exactly this key, with its parts by number.

        Not one of more parts, which cut the file otherwise: some servers complete an upload with all of them only.
        """
        with suppress(LorimerError, NoSuchUpload):  # as in `unfinished`
            found = [upload for upload in self._uploads(key) if upload["Key"] == self._bucket.prefix + key]
            if found:
                upload: str = max(found, key=lambda upload: upload["Initiated"])["UploadId"]
                there = self._there(key, upload)
                return (upload, there) if max(there, default=0) <= num_parts else None
        return None

    def _uploads(self, prefix: str) -> Iterator[Any]:
        pages = self._bucket.patient.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket.name, Prefix=self._bucket.prefix + prefix
        )
        with self._bucket.errors("list", prefix):
            for page in pages:
                yield from page.get("Uploads", [])

    def _there(self, key: str, upload: str) -> dict[int, Any]:
        """The parts the server has, by number."""
        pages = self._bucket.patient.get_paginator("list_parts").paginate(**self._bucket.place(key), UploadId=upload)
        with self._bucket.errors("write", key, writing=True):
            return {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}

    def _send_part(
        self, key: str, upload: str, part: Part, path: Path, sent: Callable[[int], None]
    ) -> tuple[dict[str, Any], bool]:
        try:
            with FileSlice(path, part.begin, part.size, sent) as body, self._bucket.errors("write", key, writing=True):
                answer = self._bucket.patient.upload_part(
                    **self._bucket.place(key),
                    UploadId=upload,
                    PartNumber=part.number,
                    Body=body,  # type: ignore[arg-type]  # boto3 reads, seeks and measures it, no more
                    ChecksumSHA256=part.sha256,
                )
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error
        return _record(part, answer), answer.get("ChecksumSHA256") == part.sha256

    def _complete(self, key: str, upload: str, parts: Sequence[dict[str, Any]]) -> None:
        """With If-None-Match where the server knows it here; elsewhere the caller's look at the key must do."""
        what: Any = {**self._bucket.place(key), "UploadId": upload, "MultipartUpload": {"Parts": parts}}
        try:
            with self._bucket.errors("write", key, writing=True):
                self._bucket.once.complete_multipart_upload(**what, IfNoneMatch="*")
        except Refused:
            with self._bucket.errors("write", key, writing=True):
                self._bucket.once.complete_multipart_upload(**what)


def _record(part: Part, answer: Any) -> dict[str, Any]:
    """How a completion names a part."""
    record = {"PartNumber": part.number, "ETag": answer["ETag"]}
    if answer.get("ChecksumSHA256"):
        record["ChecksumSHA256"] = answer["ChecksumSHA256"]
    return record


def _matching(there: Any, part: Part, path: Path) -> dict[str, Any] | None:
    """The record of a part that the server has already, unless its bytes are not ours, or nobody can tell."""
    if there is None or there["Size"] != part.size:
        return None
    if checksum := there.get("ChecksumSHA256"):
        return _record(part, there) if checksum == part.sha256 else None
    return _record(part, there) if there["ETag"].strip('"') == _md5(path, part) else None


def _md5(path: Path, part: Part) -> str:
    """What most servers give a part as its ETag; where they do not, the part is sent again."""
    state = hashlib.md5(usedforsecurity=False)
    with FileSlice(path, part.begin, part.size, lambda _: None) as data:
        while chunk := data.read(CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()

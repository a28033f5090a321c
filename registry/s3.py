"""A bucket as a store, through boto3. Conditional writes use `If-None-Match: *`; nothing else is relied on.

The client that creates never retries by itself: whether a write whose reply was lost took place is the Log's
question. Reads, lists and overwrites are retried here. `If-Match` is never used: some servers ignore or refuse it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
import botocore.exceptions as failures
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from registry.canonical import CHUNK_BYTES
from registry.errors import LorimerError, NotFound, Refused, Unavailable
from registry.store import Uncertain, check_key, check_prefix, write_atomically

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART_BYTES = 64 << 20
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "403"}
CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".gz": "application/gzip",
}
# Nothing was sent, so nothing can have happened.
_NEVER_SENT = (
    failures.EndpointConnectionError,
    failures.ConnectTimeoutError,
    failures.ProxyConnectionError,
    failures.SSLError,
)


class S3Store:
    """Keys below `prefix` in `bucket`. The bucket must exist; boto3 finds credentials and region as usual."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        part_bytes: int = PART_BYTES,
        read_timeout_s: float = READ_TIMEOUT_S,
        page_keys: int = 1000,
        session: boto3.session.Session | None = None,
    ) -> None:
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = endpoint
        self._part_bytes = part_bytes
        self._read_timeout_s = read_timeout_s
        self._page_keys = page_keys
        self._session = session or _new_session()
        with self._errors("open"):
            self._once = self._client(attempts=1)
            self._client_ = self._client(attempts=4)

    def create(self, key: str, data: bytes) -> bool:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return self._create(key, data, checksum)

    def create_file(self, key: str, path: Path) -> bool:
        """One request up to `part_bytes`. Larger files go in parts, and absence is then checked before and, where
        the server knows how, at completion: keys of large files hold a tx, so nobody else writes them."""
        try:
            with path.open("rb") as file:
                if path.stat().st_size <= self._part_bytes:
                    checksum = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
                    file.seek(0)
                    return self._create(key, file, checksum)
                return False if self.exists(key) else self._create_in_parts(key, file)
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error

    def put(self, key: str, data: bytes) -> None:
        with self._errors("write", key, writing=True):
            self._client_.put_object(Bucket=self._bucket, Key=self._key(key), Body=data, ContentType=_content_type(key))

    def get(self, key: str) -> bytes:
        return b"".join(self.chunks(key))

    def chunks(self, key: str) -> Iterator[bytes]:
        with self._errors("read", key):
            body = self._client_.get_object(Bucket=self._bucket, Key=self._key(key))["Body"]
            try:
                yield from body.iter_chunks(CHUNK_BYTES)
            finally:
                body.close()

    def fetch(self, key: str, path: Path) -> None:
        write_atomically(path, self.chunks(key))

    def exists(self, key: str) -> bool:
        try:
            with self._errors("read", key):
                self._client_.head_object(Bucket=self._bucket, Key=self._key(key))
        except NotFound:
            return False
        return True

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        for page in self._pages(prefix, StartAfter=self._prefix + start_after if start_after else ""):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self._prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, Delimiter="/"):
            for entry in page.get("CommonPrefixes", []):
                yield entry["Prefix"].removeprefix(self._prefix + prefix).removesuffix("/")

    def delete(self, key: str) -> None:
        with self._errors("delete", key), suppress(NotFound):
            self._client_.delete_object(Bucket=self._bucket, Key=self._key(key))

    def another(self) -> S3Store:
        """The same place over connections of its own."""
        return S3Store(self._bucket, self._prefix.removesuffix("/"), endpoint=self._endpoint, session=self._session)

    def refuses_wrong_sha256(self, key: str) -> bool:
        """Whether the server checks `x-amz-checksum-sha256`. Leaves `key` behind when it does not."""
        wrong = base64.b64encode(hashlib.sha256(b"other bytes").digest()).decode()
        try:
            self._create(key, b"these bytes", wrong)
        except LorimerError:
            return True
        return False

    def versioning(self) -> str:
        try:
            with self._errors("inspect"):
                return self._client_.get_bucket_versioning(Bucket=self._bucket).get("Status", "Off")
        except LorimerError:
            return "unknown"

    def _create(self, key: str, body: bytes | BinaryIO, checksum: str) -> bool:
        try:
            with self._errors("write", key, writing=True):
                self._once.put_object(
                    Bucket=self._bucket,
                    Key=self._key(key),
                    Body=body,
                    IfNoneMatch="*",
                    ContentType=_content_type(key),
                    ChecksumSHA256=checksum,
                )
        except _Present:
            return False
        return True

    def _create_in_parts(self, key: str, file: BinaryIO) -> bool:
        place: Any = {"Bucket": self._bucket, "Key": self._key(key)}
        with self._errors("write", key, writing=True):
            upload = self._client_.create_multipart_upload(**place, ContentType=_content_type(key))["UploadId"]
        try:
            with self._errors("write", key, writing=True):
                parts: list[Any] = []
                while data := file.read(self._part_bytes):
                    number = len(parts) + 1
                    sent = self._client_.upload_part(**place, UploadId=upload, PartNumber=number, Body=data)
                    parts.append({"ETag": sent["ETag"], "PartNumber": number})
                self._once.complete_multipart_upload(
                    **place, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                )
        except BaseException as error:
            with suppress(Exception):  # nobody sees an unfinished upload; bucket lifecycle rules remove it too
                self._client_.abort_multipart_upload(**place, UploadId=upload)
            if isinstance(error, _Present):
                return False
            raise
        return True

    def _pages(self, prefix: str, **options: str) -> Iterator[Any]:
        pages = self._client_.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._prefix + check_prefix(prefix),
            PaginationConfig={"PageSize": self._page_keys},
            **{key: value for key, value in options.items() if value},  # type: ignore[arg-type]
        )
        with self._errors("list", prefix):
            yield from pages

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _client(self, *, attempts: int) -> S3Client:
        return self._session.client(
            "s3",
            endpoint_url=self._endpoint,
            region_name=self._session.region_name or "us-east-1",
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=self._read_timeout_s,
                max_pool_connections=32,
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if self._endpoint else "auto", "payload_signing_enabled": True},
            ),
        )

    @contextmanager
    def _errors(self, verb: str, key: str = "", *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except failures.ClientError as error:
            raise self._answered(error, verb, key, writing=writing) from error
        except (failures.NoCredentialsError, failures.PartialCredentialsError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise Unavailable(f"no credentials for {self.url}", hint=hint) from error
        except failures.BotoCoreError as error:
            where = f"{self.url}{f' at {self._endpoint}' if self._endpoint else ''}"
            if writing and not isinstance(error, _NEVER_SENT):
                raise Uncertain(f"no answer from {where} while writing {key}: {error}") from error
            hint = "is it running, and LORIMER_S3_ENDPOINT right?"
            raise Unavailable(f"cannot reach {where}: {error}", hint=hint) from error
        except ValueError as error:
            raise Unavailable(f"cannot {verb} {self.url}: {error}", hint="is LORIMER_S3_ENDPOINT a URL?") from error

    def _answered(self, error: failures.ClientError, verb: str, key: str, *, writing: bool) -> Exception:
        """What an error reply of the server means."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return Unavailable(f"bucket {self._bucket} does not exist", hint="create it first")
        if status == 404 and not writing:
            return NotFound(f"{key} does not exist in {self.url}")
        if status == 412 and writing:
            return _Present()
        if code in DENIED or status == 403:
            return Unavailable(f"{self.url} refuses to {verb} {key}: {code}", hint="check the AWS_* credentials")
        if status == 501 and writing:
            return Refused(f"{self.url} cannot write conditionally ({code})", hint="see `lorimer registry doctor`")
        if writing and (status in (408, 409, 429) or status >= 500 or code == "RequestTimeout"):
            return Uncertain(f"{self.url} answered {status} {code} while writing {key}")
        return Unavailable(f"{self.url} answered {status} {code} to {verb} {key}")


class _Present(Exception):
    """412: the key exists."""


@cache
def _loader() -> Loader:
    """The service description of S3 is large: read it once per process."""
    return create_loader()


def _new_session() -> boto3.session.Session:
    """Credentials and region as the environment has them now."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=session)


def _content_type(key: str) -> str:
    return CONTENT_TYPES.get(Path(key).suffix, "application/octet-stream")

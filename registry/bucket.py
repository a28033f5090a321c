"""One S3 bucket below a prefix: clients, credentials, encryption, and what each failure of the server means.

boto3 alone looks for credentials (environment, profile, role, instance); none is read, kept or printed here.
Knows nothing of what the objects are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions as failures
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from registry.errors import Invalid, NotFound, Refused, Unavailable
from registry.file_slice import watch
from registry.settings import Addressing
from registry.store import Uncertain, check_key

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
MAX_CONNECTIONS = 32
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "403"}
UNENCRYPTED = {"InvalidRequest", "InvalidArgument", "NotImplemented", "InvalidEncryptionAlgorithmError"}
"""How servers decline to encrypt as asked."""
NO_CREDENTIALS = (
    failures.NoCredentialsError,
    failures.PartialCredentialsError,
    failures.CredentialRetrievalError,
    failures.ProfileNotFound,
)
# Nothing was sent, so nothing can have happened.
NEVER_SENT = (
    failures.EndpointConnectionError,
    failures.ConnectTimeoutError,
    failures.ProxyConnectionError,
    failures.SSLError,
)


class Bucket:
    """Two clients: `once` never retries, for writes whose outcome the caller settles; `patient` does, with backoff."""

    def __init__(
        self,
        name: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        addressing: Addressing = "auto",
        sse: str = "",
        sse_key_id: str = "",
        read_timeout_s: float = READ_TIMEOUT_S,
        session: boto3.session.Session | None = None,
    ) -> None:
        self.name = name
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{name}/{prefix}" if prefix else f"s3://{name}"
        self.encryption = _encryption(sse, sse_key_id)
        """Extra arguments of every request that creates an object."""
        self._endpoint = _without_secrets(endpoint)
        self._region = region
        self._addressing = addressing
        self._read_timeout_s = read_timeout_s
        with self.errors("open"):
            self._session = session or _new_session()
            self.once = self._client(attempts=1)
            self.patient = self._client(attempts=4)

    def again(self) -> Bucket:
        """The same place over connections of its own."""
        return Bucket(
            self.name,
            self.prefix.removesuffix("/"),
            endpoint=self._endpoint,
            region=self._region,
            addressing=self._addressing,
            sse=self.encryption.get("ServerSideEncryption", ""),
            sse_key_id=self.encryption.get("SSEKMSKeyId", ""),
            read_timeout_s=self._read_timeout_s,
            session=self._session,
        )

    def place(self, key: str) -> Any:
        """The arguments that name an object."""
        return {"Bucket": self.name, "Key": self.prefix + check_key(key)}

    @contextmanager
    def errors(self, verb: str, key: str = "", *, writing: bool = False) -> Iterator[None]:
        """Turn what boto3 raises into our errors; `Present` when a conditional write came too late."""
        try:
            yield
        except failures.ClientError as error:
            raise self._answered(error, verb, key, writing=writing) from error
        except NO_CREDENTIALS as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run under a role"
            raise Unavailable(f"no credentials for {self.url}", hint=hint) from error
        except failures.BotoCoreError as error:
            where = f"{self.url}{f' at {self._endpoint}' if self._endpoint else ''}"
            if writing and not isinstance(error, NEVER_SENT):
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
            return Unavailable(f"bucket {self.name} does not exist", hint="create it first")
        if status == 404 and not writing:
            return NotFound(f"{key} does not exist in {self.url}")
        if status == 404 and code == "NoSuchUpload":
            return NoSuchUpload()
        if status == 416:
            return Beyond()
        if status == 412 and writing:
            return Present()
        if code.startswith("KMS.") or (writing and code in UNENCRYPTED and self.encryption):
            return self._refuses_encryption(code)
        if code in DENIED or status == 403:
            hint = "check the AWS_* credentials and the role's policy (deploy/README.md)"
            return Unavailable(f"{self.url} refuses to {verb} {key}: {code}", hint=hint)
        if status == 501 and writing:
            return Refused(f"{self.url} cannot write conditionally ({code})", hint="see `lorimer registry doctor`")
        if writing and (status in (408, 409, 429) or status >= 500 or code == "RequestTimeout"):
            return Uncertain(f"{self.url} answered {status} {code} while writing {key}")
        return Unavailable(f"{self.url} answered {status} {code} to {verb} {key}")

    def _refuses_encryption(self, code: str) -> Refused:
        asked = self.encryption.get("ServerSideEncryption", "KMS")
        hint = "unset s3_sse, or have the bucket encrypt by default, or mend s3_sse_key_id"
        return Refused(f"{self.url} refuses server-side encryption {asked} ({code})", hint=hint)

    def _client(self, *, attempts: int) -> S3Client:
        style = "path" if self._endpoint and self._addressing == "auto" else self._addressing
        client = self._session.client(
            "s3",
            endpoint_url=self._endpoint,
            region_name=self._region or self._session.region_name or "us-east-1",
            config=Config(
                signature_version="s3v4",  # conditional writes need it
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=self._read_timeout_s,
                max_pool_connections=MAX_CONNECTIONS,
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": style, "payload_signing_enabled": True},
            ),
        )
        watch(client.meta.events)
        return client


class Present(Exception):
    """412: the key exists."""


class Beyond(Exception):
    """416: the object ends before the range asked for."""


class NoSuchUpload(Exception):
    """404: the upload in parts was completed or removed."""


def _encryption(sse: str, key_id: str) -> dict[str, Any]:
    if key_id and sse != "aws:kms":
        raise Invalid("s3_sse_key_id names a KMS key, but s3_sse is not aws:kms", param="s3_sse_key_id")
    return {"ServerSideEncryption": sse} | ({"SSEKMSKeyId": key_id} if key_id else {}) if sse else {}


def _without_secrets(endpoint: str | None) -> str | None:
    """An endpoint is printed in errors, so nobody may keep a password in it."""
    if endpoint and "@" in endpoint:
        raise Invalid(
            "s3_endpoint holds a user name or password", hint="give credentials through AWS_*", param="s3_endpoint"
        )
    return endpoint


@cache
def _loader() -> Loader:
    """The service description of S3 is large: read it once per process."""
    return create_loader()


def _new_session() -> boto3.session.Session:
    """Credentials and region as the environment has them now."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=session)

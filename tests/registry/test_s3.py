"""What each answer of an S3 server means to the caller, from a server that answers as scripted."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.bucket import Bucket
from registry.errors import NotFound, Refused, Unavailable
from registry.s3 import REREAD_DELAYS_S, S3Store
from registry.store import Uncertain, create_surely
from tests.registry.scripted import ScriptedServer, scripted_server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def store(server: ScriptedServer) -> S3Store:
    return S3Store(Bucket("bucket", "some/prefix", endpoint=server.url, read_timeout_s=0.3), sleep=lambda _: None)


def test_a_create_is_one_conditional_checked_typed_request(server: ScriptedServer, store: S3Store) -> None:
    server.script = [(200, "")]
    assert store.create("log/1.json", b"data")
    ((method, headers, body),) = server.requests
    assert (method, headers["if-none-match"], headers["content-type"]) == ("PUT", "*", "application/json")
    assert base64.b64decode(headers["x-amz-checksum-sha256"]) == hashlib.sha256(b"data").digest()
    assert body == b"data"
    assert "if-match" not in headers


@pytest.mark.parametrize("code", ["PreconditionFailed", "Anything"])
def test_412_means_somebody_was_first(server: ScriptedServer, store: S3Store, code: str) -> None:
    server.script = [(412, code)]
    assert not store.create("k", b"")


@pytest.mark.parametrize(
    "answer",
    [
        (409, "ConditionalRequestConflict"),
        (409, "OperationAborted"),
        (500, "InternalError"),
        (503, "SlowDown"),
        (400, "RequestTimeout"),
        "hangup",
        "silence",
    ],
)
def test_unclear_outcomes_are_uncertain_and_not_retried_below(
    server: ScriptedServer, store: S3Store, answer: tuple[int, str] | str
) -> None:
    server.script = [answer]
    with pytest.raises(Uncertain):
        store.create("k", b"")
    assert len(server.requests) == 1
    server.script = [answer, answer, (200, "")]
    assert create_surely(store, "k", b"mine", sleep=lambda _: None)


def test_a_lost_reply_then_412_asks_who_owns_the_key(server: ScriptedServer, store: S3Store) -> None:
    server.script = ["hangup", (412, "PreconditionFailed"), (200, "")]
    assert create_surely(store, "k", b"stored bytes", sleep=lambda _: None)
    server.script = ["hangup", (412, "PreconditionFailed"), (200, "")]
    assert not create_surely(store, "k", b"my bytes", sleep=lambda _: None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, "NoSuchBucket"), "bucket bucket does not exist"),
        ((403, "AccessDenied"), "check the AWS_"),
        ((403, "SignatureDoesNotMatch"), "check the AWS_"),
        ((400, "InvalidRequest"), "400 InvalidRequest"),
    ],
)
def test_clear_refusals_are_unavailable(
    server: ScriptedServer, store: S3Store, answer: tuple[int, str], words: str
) -> None:
    server.script = [answer]
    with pytest.raises(Unavailable, match=words) as caught:
        store.create("k", b"")
    assert not isinstance(caught.value, Uncertain)


def test_a_server_without_conditional_writes(server: ScriptedServer, store: S3Store) -> None:
    server.script = [(501, "NotImplemented")]
    with pytest.raises(Refused, match="cannot write conditionally"):
        store.create("k", b"")


def test_reads_are_retried(server: ScriptedServer, store: S3Store) -> None:
    server.script = [(500, "InternalError"), (200, "")]
    assert store.get("k") == b"stored bytes"
    assert len(server.requests) == 2
    server.script = [(404, "NoSuchKey")]
    with pytest.raises(NotFound):
        store.get("k")


def test_a_read_that_never_gets_further_ends(server: ScriptedServer) -> None:
    naps: list[float] = []
    store = S3Store(Bucket("bucket", endpoint=server.url), sleep=naps.append)
    server.script = ["cut"]
    with pytest.raises(Unavailable, match="reading k from s3://bucket broke off"):
        store.get("k")
    assert naps == list(REREAD_DELAYS_S)
    assert len(server.requests) == len(naps) + 1
    server.script = ["cut", (200, "")]
    assert store.get("k") == b"stored bytes"


def test_an_upload_counts_what_goes_out_and_asks_who_checked(
    server: ScriptedServer, store: S3Store, tmp_path: Path
) -> None:
    path, sent = tmp_path / "file", list[int]()
    path.write_bytes(b"0123456789abcdef" * (1 << 16))
    digest = hashlib.sha256(path.read_bytes())
    server.script = [(200, "")]
    assert not store.upload("k", path, digest.hexdigest(), sent.append), "nobody said that it was checked"
    assert sum(sent) == path.stat().st_size
    assert len(sent) > 4, "a bar that moves"
    server.headers = {"x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode()}
    assert store.upload("k", path, digest.hexdigest(), sent.append)
    server.script = [(412, "PreconditionFailed")]
    assert not store.upload("k", path, digest.hexdigest(), sent.append), "what is there already must be read"


def test_a_server_that_lies_about_checksums_is_refused(server: ScriptedServer) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"other bytes").digest()).decode()
    server.script, server.headers = [(200, "")], {"x-amz-checksum-sha256": wrong}
    with pytest.raises(Refused, match="says that it checked"):
        S3Store(Bucket("bucket", endpoint=server.url)).refuses_wrong_sha256("k")


def test_a_failed_download_leaves_no_file(server: ScriptedServer, store: S3Store, tmp_path: Path) -> None:
    server.script = [(404, "NoSuchBucket")]
    with pytest.raises(Unavailable):
        store.fetch("k", tmp_path / "k")
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens() -> None:
    store = S3Store(Bucket("bucket", endpoint="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match=r"cannot reach s3://bucket at http://127\.0\.0\.1:9") as caught:
        store.create("k", b"")
    assert not isinstance(caught.value, Uncertain)


def test_an_endpoint_that_is_no_url() -> None:
    with pytest.raises(Unavailable, match="LORIMER_S3_ENDPOINT"):
        S3Store(Bucket("bucket", endpoint="not a url")).create("k", b"")


def test_no_credentials(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = S3Store(Bucket("bucket", endpoint=server.url))
    with pytest.raises(Unavailable, match="AWS_ACCESS_KEY_ID"):
        store.get("k")


def test_a_bucket_that_is_not_there(moto_endpoint: str) -> None:
    store = S3Store(Bucket("absent", endpoint=moto_endpoint))
    for call in (lambda: store.create("k", b""), lambda: store.get("k"), lambda: list(store.list(""))):
        with pytest.raises(Unavailable, match="bucket absent does not exist"):
            call()

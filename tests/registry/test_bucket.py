"""Where credentials come from and never go, and how a bucket is named, placed and encrypted."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from registry.bucket import Bucket
from registry.errors import Invalid, LorimerError, Refused, Unavailable
from registry.s3 import S3Store
from registry.settings import Settings, load_settings
from registry.store import open_store, store_of
from tests.registry.scripted import ScriptedServer, scripted_server
from tests.rgw import Rgw

ID, SECRET, TOKEN = "AKIAEXAMPLE", "wJalrXUtnSECRET", "FwoGZXIvTOKEN"


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that knows no credentials, and no region."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_REGION", "REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        server.script = [(200, "")]
        yield server


def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("ACCESS_KEY_ID", ID), ("SECRET_ACCESS_KEY", SECRET), ("SESSION_TOKEN", TOKEN)):
        monkeypatch.setenv(f"AWS_{name}", value)


def profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = f"[ops]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    (tmp_path / "credentials").write_text(text)
    monkeypatch.setenv("AWS_PROFILE", "ops")


def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What single sign-on and vaults use."""
    answer = {"Version": 1, "AccessKeyId": ID, "SecretAccessKey": SECRET, "SessionToken": TOKEN}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path}/answer.json\n")


@pytest.mark.parametrize("source", [environment, profile, process])
def test_credentials_come_from_where_boto3_looks(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: Callable[[pytest.MonkeyPatch, Path], None],
) -> None:
    source(monkeypatch, tmp_path)
    open_store("s3://bucket", s3_endpoint=server.url).put("k", b"")
    ((_, headers, _),) = server.requests
    assert f"Credential={ID}/" in headers["authorization"]
    assert headers["x-amz-security-token"] == TOKEN


def test_credentials_of_a_role(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's host hands them out."""
    until = "2100-01-01T00:00:00Z"
    answer = {"AccessKeyId": ID, "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": until}
    with scripted_server() as host:
        host.script, host.body = [(200, "")], json.dumps(answer).encode()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/role")
        open_store("s3://bucket", s3_endpoint=server.url).put("k", b"")
    ((_, headers, _),) = server.requests
    assert f"Credential={ID}/" in headers["authorization"]
    assert headers["x-amz-security-token"] == TOKEN


def test_no_setting_holds_credentials(tmp_path: Path) -> None:
    names = " ".join(Settings.__struct_fields__)
    assert not any(word in names for word in ("secret", "password", "access_key", "token_id", "session_token"))
    for name in ("S3_SECRET", "AWS_SECRET_ACCESS_KEY", "S3_ACCESS_KEY"):
        with pytest.raises(Invalid) as caught:
            load_settings(environ={f"LORIMER_{name}": SECRET})
        assert SECRET not in str(caught.value)
    (tmp_path / "lorimer.toml").write_text(f'aws_secret_access_key = "{SECRET}"\n')
    with pytest.raises(Invalid) as caught:
        load_settings(environ={}, file=tmp_path / "lorimer.toml")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [(f"s3://{ID}:{SECRET}@bucket/prefix", None), ("s3://bucket", f"http://{ID}:{SECRET}@127.0.0.1:9")],
)
def test_urls_that_hold_secrets_are_refused_and_not_repeated(url: str, endpoint: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        open_store(url, s3_endpoint=endpoint)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "answer",
    [(403, "SignatureDoesNotMatch"), (403, "ExpiredToken"), (404, "NoSuchBucket"), (500, "InternalError"), "hangup"],
)
def test_no_secret_is_ever_told(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    answer: tuple[int, str] | str,
) -> None:
    environment(monkeypatch, tmp_path)
    caplog.set_level(logging.INFO)
    server.script = [answer]
    store = open_store("s3://bucket", s3_endpoint=server.url)
    with pytest.raises(LorimerError) as caught:
        store.create("k", b"")
    told = "".join(traceback.format_exception(caught.value)) + repr(store) + caplog.text
    assert SECRET not in told
    assert TOKEN not in told


def test_a_profile_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Unavailable, match=r"no credentials .*AWS_PROFILE"):
        open_store("s3://bucket")


class Asked(Exception):
    """The URL that would have been asked."""


def ask(request: Any, **_: object) -> None:
    raise Asked(request.url)


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, "bucket.s3.amazonaws.com"),
        ({"LORIMER_S3_REGION": "eu-west-1"}, "bucket.s3.eu-west-1.amazonaws.com"),
        ({"LORIMER_S3_ADDRESSING": "path"}, "s3.amazonaws.com/bucket"),
        ({"LORIMER_S3_ENDPOINT": "https://minio:9000"}, "minio:9000/bucket"),
        ({"LORIMER_S3_ENDPOINT": "https://r2.example", "LORIMER_S3_ADDRESSING": "virtual"}, "bucket.r2.example"),
    ],
)
def test_where_a_bucket_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environ: dict[str, str], host: str) -> None:
    environment(monkeypatch, tmp_path)
    store = store_of(load_settings(environ={"LORIMER_STORE": "s3://bucket/some/prefix", **environ}))
    assert isinstance(store, S3Store)
    for each in (store, store.another()):
        each._bucket.patient.meta.events.register("before-send.s3", ask)
        with pytest.raises(Asked, match=re.escape(f"https://{host}/some/prefix/k")):
            each.exists("k")


def test_the_region_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile(monkeypatch, tmp_path)
    (tmp_path / "config").write_text("[profile ops]\nregion = eu-central-1\n")
    assert Bucket("bucket").patient.meta.region_name == "eu-central-1"
    assert Bucket("bucket", region="eu-north-1").patient.meta.region_name == "eu-north-1"


def test_every_object_is_encrypted_as_asked(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment(monkeypatch, tmp_path)
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * (6 << 16))
    for sse, key_id in (("AES256", ""), ("aws:kms", "key-1")):
        bucket = Bucket("lorimer", sse.replace(":", "-"), endpoint=moto_endpoint, sse=sse, sse_key_id=key_id)
        store = S3Store(bucket, large_bytes=5 << 20, part_bytes=5 << 20)
        for again in (store, store.another()):
            again.put("put", b"")
        store.create("create", b"")
        store.create_file("large", large)
        for key in ("put", "create", "large"):
            head = bucket.patient.head_object(**bucket.place(key))
            assert head["ServerSideEncryption"] == sse
            assert head.get("SSEKMSKeyId", "") == key_id


def test_a_key_without_kms_is_a_mistake() -> None:
    with pytest.raises(Invalid, match="s3_sse is not aws:kms"):
        open_store("s3://bucket", s3_sse="AES256", s3_sse_key_id="key-1")
    with pytest.raises(Invalid, match="s3_sse"):
        load_settings(environ={"LORIMER_S3_SSE": "rot13"})


@pytest.mark.s3
def test_a_server_that_does_not_encrypt_says_so(rgw: Rgw, tmp_path: Path) -> None:
    session = boto3.session.Session(rgw.access_key, rgw.secret_key)
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * (6 << 16))
    for sse in ("AES256", "aws:kms"):
        bucket = Bucket("lorimer", "sse", endpoint=rgw.endpoint, sse=sse, session=session)
        store = S3Store(bucket, large_bytes=5 << 20, part_bytes=5 << 20)
        for write in (
            lambda store=store: store.create("k", b""),
            lambda store=store: store.put("k", b""),
            lambda store=store: store.create_file("k", large),
        ):
            with pytest.raises(Refused, match=f"refuses server-side encryption {sse}") as caught:
                write()
            assert "s3_sse" in caught.value.hint

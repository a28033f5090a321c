"""The gateway over TLS, asked by real TLS clients with certificates made here."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from registry.errors import Invalid
from registry.settings import Settings
from serving.gateway.tls import tls_options
from tests.gateway.certificates import Authority, Issued

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours", "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs", "stranger")


def trusting(authority: Authority, shown: Issued | None = None) -> ssl.SSLContext:
    """A client's side, which shows a certificate of its own if it has one."""
    context = ssl.create_default_context(cafile=str(authority.path))
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def get(running: Running, context: ssl.SSLContext | None = None) -> httpx.Response:
    url = running.server.url
    return httpx.get(f"{url}/v1/models", verify=context or ssl.create_default_context(), trust_env=False)


def test_clients_that_trust_the_authority_are_answered_and_nobody_else(
    start: Callable[..., Running], authority: Authority
) -> None:
    server = authority.issue("server")
    running = start(tls_cert=str(server.certificate), tls_key=str(server.key))
    assert running.server.url.startswith("https://")
    assert get(running, trusting(authority)).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        get(running)
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError, match=r"(?i)version"):
        get(running, old)
    with pytest.raises(httpx.HTTPError):
        httpx.get(running.server.url.replace("https", "http") + "/health", trust_env=False)


def test_streams_and_large_bodies_pass_through_tls(start: Callable[..., Running], authority: Authority) -> None:
    server = authority.issue("server")
    running = start(tls_cert=str(server.certificate), tls_key=str(server.key))
    with httpx.Client(base_url=running.server.url, verify=trusting(authority), trust_env=False, timeout=60) as client:
        large = {"model": "x" * 1_000_000, "messages": [{"role": "user", "content": "hello"}]}
        assert client.post("/v1/chat/completions", json=large).status_code in (400, 404)
        body = {"model": running.base_name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        with client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
            assert [*answer.iter_lines()][-2] == "data: [DONE]"


def test_with_a_client_authority_only_its_certificates_connect(
    start: Callable[..., Running], authority: Authority, stranger: Authority
) -> None:
    server = authority.issue("server")
    clients = Authority(authority.path.parent / "clients", "clients")
    running = start(tls_cert=str(server.certificate), tls_key=str(server.key), tls_client_ca=str(clients.path))
    assert get(running, trusting(authority, clients.issue("app"))).status_code == 200
    for shown in (None, stranger.issue("app"), clients.issue("ended", days=-1), authority.issue("not-a-client")):
        with pytest.raises(httpx.HTTPError):
            get(running, trusting(authority, shown))
    assert get(running, trusting(authority, clients.issue("app"))).status_code == 200, "the others did no harm"
    assert "mtls" in running.log.getvalue()


def test_files_that_do_not_go_together_are_told_before_anything_listens(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    ours, theirs = authority.issue("ours"), stranger.issue("theirs")
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    cert, key = str(ours.certificate), str(ours.key)
    wrong = [
        (Settings(tls_cert=cert), "tls_key"),
        (Settings(tls_key=key), "tls_cert"),
        (Settings(tls_cert=cert, tls_key=str(tmp_path / "nowhere")), "tls_key"),
        (Settings(tls_cert=cert, tls_key=str(theirs.key)), "tls_key"),
        (Settings(tls_cert=str(broken), tls_key=key), "tls_key"),
        (Settings(tls_cert=cert, tls_key=key, tls_client_ca=str(broken)), "tls_client_ca"),
        (Settings(tls_client_ca=str(authority.path)), "tls_cert"),
    ]
    for settings, param in wrong:
        with pytest.raises(Invalid) as caught:
            tls_options(settings)
        assert caught.value.param == param
    assert tls_options(Settings()) == {}

"""Two gateways behind a proxy are replaced one after the other while requests run: nobody notices."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from registry.adapters import Registry
from registry.store import open_store
from tests.gateway.conftest import publisher

if TYPE_CHECKING:
    from registry.settings import Settings
    from serving.base import Base

START_S = 90.0
CLIENTS = 6
PROXY = """
global
    log stderr local0 warning
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option redispatch
    retries 2
frontend in
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /ready
    http-check expect status 200
    default-server check inter 200ms fall 1 rise 1
    server one 127.0.0.1:{first}
    server two 127.0.0.1:{second}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Process:
    """One `lorimer serve`, to be stopped and started again at the same port."""

    environ: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "lorimer", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=self.environ, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while not self.is_ready():
            assert self.process.poll() is None, "the gateway ended"
            assert time.monotonic() < until
            time.sleep(0.1)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def proxy_binary() -> str:
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        complaint = "haproxy is not installed: run tests/install-tools.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(complaint)
        pytest.skip(complaint)
    return found


@pytest.fixture(scope="module")
def gateways(
    tiny_base: Base, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Process]]:
    """Two processes over one store; the compiled kernel of this process is theirs too."""
    tmp_path = tmp_path_factory.mktemp("rolling")
    registry = Registry(open_store(f"file://{tmp_path}/store"), actor="tests")
    registry.init()
    registry.register_base(tiny_base.profile)
    publisher(registry, tiny_base, tmp_path / "made")("alpha", 1)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LORIMER_")},
        "LORIMER_STORE": f"file://{tmp_path}/store",
        "LORIMER_CACHE_DIR": tiny_settings.cache_dir,
        "LORIMER_BASE": tiny_settings.base,
        "LORIMER_DTYPE": "float32",
        "LORIMER_THREADS": "1",
    }
    both = [Process(environ), Process(environ)]
    try:
        starting = [threading.Thread(target=each.start) for each in both]
        for each in starting:
            each.start()
        for each in starting:
            each.join()
        yield both
    finally:
        for each in both:
            each.kill()


@pytest.fixture
def proxy(proxy_binary: str, gateways: list[Process], tmp_path: Path) -> Iterator[str]:
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(PROXY.format(port=port, first=gateways[0].port, second=gateways[1].port))
    running = subprocess.Popen([proxy_binary, "-q", "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


@dataclass
class Load:
    """Clients that keep asking through the proxy, over connections that they keep, streaming and not."""

    url: str
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()

    def _ask(self, number: int) -> None:
        body = {"model": "alpha", "prompt": f"client {number}", "max_tokens": 60, "ignore_eos": True}
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    failure = self._stream(client, body) if number % 2 else self._whole(client, body)
                except httpx.HTTPError as error:
                    failure = repr(error)
                if failure:
                    self.failures.append(failure)
                self.answered += 1

    def _whole(self, client: httpx.Client, body: dict[str, object]) -> str:
        response = client.post("/v1/completions", json=body)
        return "" if response.status_code == 200 else response.text

    def _stream(self, client: httpx.Client, body: dict[str, object]) -> str:
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            lines = [line for line in response.iter_lines() if line]
        return "" if lines[-1:] == ["data: [DONE]"] else "\n".join(lines[-2:])


@pytest.mark.slow
def test_no_request_fails_while_gateways_are_replaced(gateways: list[Process], proxy: str) -> None:
    with Load(proxy) as load:
        time.sleep(1.0)
        for each in gateways:
            before = load.answered
            assert each.stop() == 0
            assert load.answered > before, "the other one serves meanwhile"
            each.start()
            time.sleep(1.0)  # the proxy sees it
    assert not load.failures
    assert load.answered > 50


@pytest.mark.slow
def test_a_drained_gateway_finishes_what_it_began(gateways: list[Process]) -> None:
    """Straight to the process: what runs when it is told to stop is answered to its end, then it exits with 0."""
    first = gateways[0]
    body = {"model": "alpha", "prompt": "x", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"http://127.0.0.1:{first.port}/v1/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        assert first.process is not None
        first.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        ready = httpx.get(f"http://127.0.0.1:{first.port}/ready")
        assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert first.process.wait(30) == 0

"""The gateway on a socket: granian on an event loop of its own thread, started, drained and stopped by its owner."""

from __future__ import annotations

import asyncio
import errno
import gc
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from registry.errors import Invalid, LorimerError, Unavailable
from serving.gateway.access import require_guarded
from serving.gateway.app import create_app
from serving.gateway.entrance import Entrance
from serving.gateway.gateway import Gateway
from serving.gateway.pace import Patience
from serving.gateway.request_line import RequestLog
from serving.gateway.tls import tls_options

START_S = 30.0
POLL_S = 0.02
BACKLOG = 1024
MOST_CONNECTIONS = 8192
FILES_KEPT = 512
"""Open files that are left for everything but connections."""
IDLE_MS = 60_000
"""How long a connection may be silent before a request, and how long the head of one may take."""
HEAD_BYTES = 64 << 10
MAX_PORT = 65_535


class GatewayServer:
    """One listening gateway. It does not own the gateway: stopping it leaves the engine running."""

    def __init__(
        self, gateway: Gateway, host: str | None = None, port: int | None = None, drain_s: float | None = None
    ) -> None:
        settings = gateway.settings
        self.host = host or settings.host
        self.port = settings.port if port is None else port
        self._address = self.host
        self._drain_s = settings.drain_s if drain_s is None else drain_s
        self._tls = tls_options(settings)
        self._gateway = gateway
        patience = Patience(body_s=settings.body_timeout_s, stall_s=settings.stall_timeout_s)
        self._entrance = Entrance(create_app(gateway), RequestLog(gateway.log, gateway.metrics.http), patience)
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway-loop", daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def in_flight(self) -> int:
        return self._entrance.in_flight

    def start(self) -> GatewayServer:
        """Listen and return once connections are accepted. Unavailable: the port is taken; Refused: open to all."""
        require_guarded(self.host, self._gateway.credentials.are_checked)
        self._address, self.port = free_address(self.host, self.port)
        self._thread.start()
        if not self._listening.wait(START_S) or self._failure is not None:
            raise Unavailable(f"the gateway did not come up on {self.url}: {self._failure or 'no answer'}")
        return self

    def stop(self) -> None:
        """Stop being ready at once, let running requests finish for as long as the drain allows, then hang up."""
        self._gateway.draining = True
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> GatewayServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to whoever called start()
            self._failure = error
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = Server(
            self._gateway.tracing.wrap(self._entrance),
            address=self._address,
            port=self.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,  # of a connection that may yet become HTTP/2 it does not limit the silence
            http1_settings=HTTP1Settings(header_read_timeout=IDLE_MS, max_buffer_size=HEAD_BYTES),
            backlog=BACKLOG,
            backpressure=connections(),
            websockets=False,
            log_enabled=False,
            **self._tls,
        )
        serving = asyncio.create_task(server.serve())
        try:
            await self._until_listening(serving)
            self._listening.set()
            await self._stopping.wait()
            await self._until_quiet()
        finally:
            server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait({serving}, timeout=self._drain_s / 2)

    async def _until_listening(self, serving: asyncio.Task[None]) -> None:
        while not serving.done():
            try:
                _, writer = await asyncio.open_connection(self._address, self.port)
            except OSError:
                await asyncio.sleep(POLL_S)
                continue
            writer.close()
            return
        serving.result()

    async def _until_quiet(self) -> None:
        """Answer whoever still comes until routers have seen /ready fail: for half the drain, the rest is to finish."""
        self._entrance.closing = True
        deadline = time.monotonic() + self._drain_s / 2
        quiet_s = self._gateway.settings.drain_quiet_s
        while self._entrance.quiet_s() < quiet_s and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)


def serve(server: GatewayServer, on_listening: Callable[[], None] = lambda: None) -> None:
    """Run until SIGTERM or SIGINT, then drain. To be called on the main thread."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt  # asked twice: do not wait for the drain
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        settle()
        on_listening()
        while not asked.wait(1.0):
            pass
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def settle() -> None:
    """Whatever was loaded until now stays. A collection of garbage that looks at all of it again holds every thread of
    the process up for a quarter of a second, in the middle of answers."""
    gc.collect()
    gc.freeze()


def connections() -> int:
    """How many may be open at once, with as many files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(min(MOST_CONNECTIONS, files - FILES_KEPT), 64)


def free_address(host: str, port: int) -> tuple[str, int]:
    """The numeric address and port (0: any), proven free: granian itself would silently share a taken port."""
    if not 0 <= port <= MAX_PORT:
        raise Invalid(f"port {port} is outside 0-{MAX_PORT}", param="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            name = probe.getsockname()
            return str(name[0]), int(name[1])
    except OSError as error:
        raise _unbound(host, port, error) from error


def _unbound(host: str, port: int, error: OSError) -> LorimerError:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(f"port {port} on {host} is taken", hint="stop the other process or choose another --port")
    return Unavailable(f"cannot listen on {host}:{port}: {error.strerror or error}")

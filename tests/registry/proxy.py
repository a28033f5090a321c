"""A line to a server that can be cut: relays bytes both ways, counts them, and breaks connections where it is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from urllib.parse import urlsplit

BLOCK = 1 << 16


class Proxy:
    """`cuts_up` and `cuts_down`: totals of bytes relayed that way at which the connection in use goes away."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lines: list[tuple[Thread, socket.socket, socket.socket]] = []
        self._lock = Lock()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_up = self.num_down = 0
        self.cuts_up: list[int] = []
        self.cuts_down: list[int] = []

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                line = Thread(target=self._serve_line, args=(client, server), daemon=True)
                self._lines.append((line, client, server))
                line.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line, client, server in self._lines:
            _hang_up(client, server)
            line.join()

    def _serve_line(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            up = Thread(target=self._relay, args=(client, server, True), daemon=True)
            up.start()
            self._relay(server, client, False)
            up.join()

    def _relay(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while (data := source.recv(BLOCK)) and not self._is_cut(len(data), up):
                target.sendall(data)
        _hang_up(source, target)

    def _is_cut(self, num_bytes: int, up: bool) -> bool:
        with self._lock:
            if up:
                self.num_up += num_bytes
            else:
                self.num_down += num_bytes
            total, cuts = (self.num_up, self.cuts_up) if up else (self.num_down, self.cuts_down)
            if cuts and total >= cuts[0]:
                cuts.pop(0)
                return True
        return False


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    thread = Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()

"""Many streaming HTTP clients in one small process: bodies on standard input, tokens and seconds on standard output.

Plain sockets and one `select` for all, for its processor time is taken from the server it loads: clients of a service
run elsewhere. Every byte is received as it comes, and the tokens counted are those that each answer's usage tells.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

RECEIVE_BYTES = 1 << 16
KEPT_BYTES = 4096
"""Of an answer's end: more than its last chunk has, which tells the usage."""
DATA = b"data: "
DONE = b"data: [DONE]"


class Stream:
    """One request over a connection of its own."""

    def __init__(self, host: str, port: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        self.socket = socket.create_connection((host, port))
        self.socket.sendall(f"{head}content-length: {len(payload)}\r\nconnection: close\r\n\r\n".encode() + payload)
        self._begun = False
        self._end = b""

    def receive(self) -> int | None:
        """Take what has come; the answer's tokens once it is complete."""
        piece = self.socket.recv(RECEIVE_BYTES)
        self._end = self._end[-KEPT_BYTES:] + piece
        if (not self._begun and b" 200 " not in piece.partition(b"\r\n")[0]) or not piece:
            raise RuntimeError(f"no answer, or one that broke off: {self._end[-500:]!r}")
        self._begun = True
        if DONE not in self._end:
            return None
        self.socket.close()
        last = self._end.partition(DONE)[0].rpartition(DATA)[2].partition(b"\n")[0]
        return int(json.loads(last)["usage"]["completion_tokens"])


def run(host: str, port: int, clients: int, bodies: Iterator[dict[str, Any]]) -> int:
    """Tokens of all answers; each client asks again as soon as it has its answer."""
    tokens = 0
    with selectors.DefaultSelector() as streams:

        def ask() -> None:
            if (body := next(bodies, None)) is not None:
                stream = Stream(host, port, body)
                streams.register(stream.socket, selectors.EVENT_READ, stream)

        for _ in range(clients):
            ask()
        while streams.get_map():
            for key, _ in streams.select():
                if (answered := key.data.receive()) is not None:
                    streams.unregister(key.fileobj)
                    tokens += answered
                    ask()
    return tokens


def main() -> None:
    told = json.load(sys.stdin)
    started = time.perf_counter()
    tokens = run(told["host"], told["port"], told["clients"], iter(told["bodies"]))
    json.dump({"tokens": tokens, "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()

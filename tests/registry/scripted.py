"""An S3 server that answers as scripted and remembers what it was asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class ScriptedServer(ThreadingHTTPServer):
    """Answers with `script`, one entry per request and the last for ever: (status, code), hangup, silence, cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, str] | str] = []
        self.headers: dict[str, str] = {}
        self.body = b"stored bytes"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_answer(self) -> tuple[int, str] | str:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = self.server.next_answer()
        if isinstance(answer, str):
            if answer == "silence":
                time.sleep(1)
            if answer == "cut":  # in the middle of a body
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
            self.close_connection = True
            return
        status, code = answer
        text = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode() if code else b""
        if status == 200 and self.command == "GET":
            text = self.server.body
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()

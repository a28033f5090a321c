"""A gateway in a process of its own, and what the system and its metrics say of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.tiny import write_tiny_base
from registry.errors import Unavailable

START_S = 180.0
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """A gateway that listens."""

    port: int
    pid: int
    model: str

    def metric(self, name: str) -> float:
        """The sum over all its labels."""
        found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", self._get("/metrics"), re.MULTILINE)
        return sum(float(value) for value in found)

    def rows(self) -> int:
        """Running and waiting."""
        return int(self.metric("lorimer_running") + self.metric("lorimer_waiting"))

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def settle(self, timeout_s: float = 60.0) -> bool:
        """Wait until nothing runs."""
        until = time.monotonic() + timeout_s
        while self.rows():
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=60) as response:
            text: str = response.read().decode()
            return text


@contextmanager
def gateway(base: str, threads: int, **settings: Any) -> Iterator[Served]:
    """`lorimer serve` on an empty store. `base` is `tiny`, or whatever the command takes."""
    with tempfile.TemporaryDirectory(prefix="lorimer-gateway-") as temporary:
        root, port = Path(temporary), _free_port()
        if base == "tiny":
            base = str(write_tiny_base(root / "base"))
            settings = {"dtype": "float32", **settings}
        told = {"store": f"file://{root}/store", "base": base, "threads": threads, "port": port, **settings}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LORIMER_")}
        environ |= {f"LORIMER_{name.upper()}": str(value) for name, value in told.items()}
        environ |= {"OMP_NUM_THREADS": str(threads)}
        with (root / "log").open("wb") as log:
            command = [sys.executable, "-m", "lorimer"]
            subprocess.run([*command, "registry", "init"], env=environ, check=True, stdout=log, stderr=log)
            process = subprocess.Popen([*command, "serve"], env=environ, stdout=log, stderr=log)
        try:
            _await(process, port, root / "log")
            yield Served(port, process.pid, Path(base).name if base.startswith("/") else base)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection((HOST, port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise Unavailable(f"the gateway did not come up: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])

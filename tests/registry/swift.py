"""OpenStack Swift with its S3 API on this machine: a store that must be refused. It knows no create-if-absent.

    python -m tests.registry.swift            start it, let the doctor look at it, print the verdict

Swift comes from PyPI into an environment of its own below .cache/, made once (about 30 s). One process each for
proxy, account, container and object server; all state lies in a temporary folder on one device.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from registry import doctor
from registry.store import open_store

REQUIREMENT = "swift==2.38.0"
ROOT = Path(__file__).parents[2] / ".cache" / "swift"
START_TIMEOUT_S = 60.0
SERVERS = ("account", "container", "object", "proxy")

HASH = "[swift-hash]\nswift_hash_path_suffix = lorimer\n"
STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
workers = 0
user = {user}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {folder}
workers = 0
user = {user}
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
[filter:slo]
use = egg:swift#slo
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""


@dataclass(frozen=True)
class Swift:
    """A running server with one bucket and one user."""

    endpoint: str
    bucket: str = "lorimer"

    def environ(self) -> dict[str, str]:
        """What a program needs to use it."""
        return {
            "LORIMER_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test:tester",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def install() -> Path:
    """The folder of Swift's programs; CalledProcessError where it cannot be installed."""
    programs = ROOT / "bin"
    if not (programs / "swift-proxy-server").exists():
        subprocess.run([sys.executable, "-m", "venv", ROOT], check=True, capture_output=True)
        pip = [programs / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, REQUIREMENT], check=True, capture_output=True)
    return programs


@contextmanager
def running(programs: Path) -> Iterator[Swift]:
    """Start everything, yield the server, stop everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swift-")))
        ports = dict(zip(SERVERS, _free_ports(len(SERVERS)), strict=True))
        _configure(programs, folder, ports)
        for kind in SERVERS:
            out = stack.enter_context((folder / f"{kind}.out").open("wb"))
            command = [programs / f"swift-{kind}-server", folder / f"{kind}-server.conf"]
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        server = Swift(f"http://127.0.0.1:{ports['proxy']}")
        _await_bucket(server, folder)
        yield server


def _configure(programs: Path, folder: Path, ports: dict[str, int]) -> None:
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(HASH)
    for kind, port in ports.items():
        text = PROXY if kind == "proxy" else STORAGE
        (folder / f"{kind}-server.conf").write_text(text.format(kind=kind, port=port, folder=folder, user=user))
        if kind != "proxy":
            ring = folder / f"{kind}.builder"
            for action in (["create", "4", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
                subprocess.run([programs / "swift-ring-builder", ring, *action], check=True, capture_output=True)


def _await_bucket(server: Swift, folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    session = boto3.session.Session("test:tester", "testing", region_name="us-east-1")
    client = session.client("s3", endpoint_url=server.endpoint)
    while True:
        try:
            client.create_bucket(Bucket=server.bucket)
            client.close()
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.out")))
                raise TimeoutError(f"Swift did not start: {error}\n{logs}") from error
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def main() -> int:
    with running(install()) as server:
        os.environ.update(server.environ())
        verdict = doctor.probe(open_store(f"s3://{server.bucket}/registry", s3_endpoint=server.endpoint))
    for check in verdict.checks:
        word = {True: "ok", False: "FAILS", None: "fact"}[check.passed]
        sys.stdout.write(f"{word:6s} {check.name:22s} {check.detail}\n")
    sys.stdout.write("can hold a registry\n" if verdict.passed else "refused\n")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())

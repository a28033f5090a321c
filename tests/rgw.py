"""A real S3 server for tests: one-node Ceph (monitor, in-memory OSD, RADOS gateway) in a temporary folder, no Docker.

    python tests/rgw.py -- COMMAND...     run COMMAND with LORIMER_S3_ENDPOINT, LORIMER_STORE and AWS_* set, then stop
    python tests/rgw.py                   run until interrupted, printing those variables

    pytest: the session fixture `rgw`. Without Ceph it skips and says so; in CI (`CI=true`) it fails.

Debian: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common python3-prettytable
Ports are chosen free and all files are temporary, so several may run side by side. Start-up takes about 3 seconds.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_TIMEOUT_S = 90.0
BUCKET = "lorimer"

CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public addr = 127.0.0.1
mon initial members = a
paxos propose interval = 0.05
paxos min wait = 0.01
mon allow pool size one = true
mon data avail warn = 0
mon data avail crit = 0
mon max pg per osd = 2000
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pg autoscale mode = off
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
crash dir = {folder}
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
"""


@dataclass(frozen=True)
class Rgw:
    """A running server with one bucket and one user."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    conf: Path

    def another_user(self, name: str) -> Rgw:
        """The same server as somebody who may do nothing until a policy says so."""
        return _add_user(dataclasses.replace(self, access_key=secrets.token_hex(10)), name)

    def environ(self) -> dict[str, str]:
        """What a program needs to use it."""
        return {
            "LORIMER_S3_ENDPOINT": self.endpoint,
            "LORIMER_STORE": f"s3://{self.bucket}/registry",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def running() -> Iterator[Rgw]:
    """Start everything, yield the server, stop everything and remove the folder whatever happens."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rgw-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        ports = dict(zip(("mon_v2", "mon_v1", "rgw"), _free_ports(3), strict=True))
        cluster = _Cluster(folder, stack)
        try:
            cluster.configure(ports)
            cluster.start_monitor(ports)
            cluster.start_osd()
            server = cluster.start_gateway(ports["rgw"])
        except (subprocess.SubprocessError, TimeoutError) as error:
            raise RuntimeError(f"Ceph did not start: {error}\n{cluster.last_words()}") from error
        yield server


class _Cluster:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._conf = folder / "ceph.conf"
        self._stack = stack
        self._fsid = str(uuid.uuid4())
        self._deadline = time.monotonic() + START_TIMEOUT_S

    def configure(self, ports: dict[str, int]) -> None:
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir()
        self._conf.write_text(CONF.format(folder=self._folder, fsid=self._fsid, **ports))
        keyring = str(self._folder / "keyring")
        self._run("ceph-authtool", keyring, "--create-keyring")
        for name, caps in {
            "mon.": {"mon": "allow *"},
            "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
        }.items():
            allowed = [word for part, cap in caps.items() for word in ("--cap", part, cap)]
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *allowed)

    def start_monitor(self, ports: dict[str, int]) -> None:
        monmap = str(self._folder / "monmap")
        address = f"[v2:127.0.0.1:{ports['mon_v2']},v1:127.0.0.1:{ports['mon_v1']}]"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, monmap)
        keyring = str(self._folder / "keyring")
        self._run("ceph-mon", "-c", str(self._conf), "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._spawn("ceph-mon", "-i", "a")
        self._until("ceph", "-c", str(self._conf), "--connect-timeout", "5", "mon", "stat")

    def start_osd(self) -> None:
        conf = str(self._conf)
        identity = str(uuid.uuid4())
        key = self._run("ceph-authtool", str(self._folder / "keyring"), "-p", "-n", "osd.0").strip()
        secret = self._folder / "osd-secret.json"
        secret.write_text(f'{{"cephx_secret": "{key}"}}')
        self._run("ceph", "-c", conf, "osd", "new", identity, "0", "-i", str(secret))
        self._run("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._spawn("ceph-osd", "-i", "0")

    def start_gateway(self, port: int) -> Rgw:
        endpoint = f"http://127.0.0.1:{port}"
        self._spawn("radosgw", "-n", "client.admin")
        while not _listens(port):
            self._tick()
        server = _add_user(Rgw(endpoint, BUCKET, secrets.token_hex(10), secrets.token_hex(20), self._conf), "test")
        make_bucket(server, server.bucket)
        return server

    def last_words(self) -> str:
        logs = sorted(self._folder.glob("*.out"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def _run(self, *command: str) -> str:
        left = max(self._deadline - time.monotonic(), 1.0)
        done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
        if done.returncode != 0:
            raise subprocess.SubprocessError(f"{' '.join(command[:3])} exited {done.returncode}: {done.stderr[-1000:]}")
        return done.stdout

    def _spawn(self, program: str, *arguments: str) -> None:
        out = self._stack.enter_context((self._folder / f"{program}.out").open("wb"))
        command = [program, "-c", str(self._conf), "-f", *arguments]
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 one system call, no locks taken
        )
        self._stack.callback(_stop, process)

    def _until(self, *command: str) -> None:
        while True:
            try:
                self._run(*command)
                return
            except subprocess.SubprocessError:
                self._tick()

    def _tick(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"not up after {START_TIMEOUT_S:g} s")
        time.sleep(0.1)


def _add_user(server: Rgw, name: str) -> Rgw:
    keys = ("--access-key", server.access_key, "--secret-key", server.secret_key)
    command = ["radosgw-admin", "-c", str(server.conf), "user", "create", f"--uid={name}", f"--display-name={name}"]
    subprocess.run([*command, *keys], check=True, capture_output=True, timeout=START_TIMEOUT_S)
    return server


def make_bucket(server: Rgw, name: str) -> None:
    import boto3

    session = boto3.session.Session(server.access_key, server.secret_key, region_name="us-east-1")
    client = session.client("s3", endpoint_url=server.endpoint)
    client.create_bucket(Bucket=name)
    client.close()


@pytest.fixture(scope="session")
def rgw() -> Iterator[Rgw]:
    """A running Ceph gateway for the whole test session; AWS_* in the environment point to it."""
    if missing := missing_programs():
        message = f"no real S3 server: {', '.join(missing)} not installed (see tests/rgw.py)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with running() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ().items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        yield server


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _die_with_parent() -> None:
    """Runs in the child: a test run that is killed must not leave servers behind. Linux only, like Ceph."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Nothing on an in-memory disk is worth a slow goodbye."""
    process.kill()
    process.wait()


def main(arguments: Sequence[str]) -> int:
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if missing := missing_programs():
        sys.stderr.write(f"not installed: {', '.join(missing)}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running() as server:
        if command:
            return subprocess.run(command, env=os.environ | server.environ(), check=False).returncode
        for name, value in server.environ().items():
            sys.stdout.write(f"export {name}={value}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

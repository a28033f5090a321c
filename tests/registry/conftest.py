"""One `store` fixture over a directory, moto and a real Ceph gateway; adapters made of numpy; a clock that stands."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.store import Store, open_store
from tests.registry.folders import PROFILE

_numbers = itertools.count()


class FakeClock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """moto's S3 in this process. Its check-then-put takes no lock: never race on it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if name not in os.environ:
                patch.setenv(name, "testing")
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="lorimer")
        yield endpoint
    server.stop()


STORES = ["directory", "moto", pytest.param("rgw", marks=pytest.mark.s3)]
REAL_STORES = ["directory", pytest.param("rgw", marks=pytest.mark.s3)]

OpenAgain = Callable[[], Store]


@pytest.fixture
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> OpenAgain:
    """Opens one and the same fresh place again and again, as separate processes would."""
    kind = request.param
    if kind == "directory":
        return lambda: DirectoryStore(tmp_path / "store")
    endpoint = request.getfixturevalue("moto_endpoint") if kind == "moto" else request.getfixturevalue("rgw").endpoint
    url = f"s3://lorimer/test-{next(_numbers)}"
    return lambda: open_store(url, s3_endpoint=endpoint)


@pytest.fixture
def store(open_again: OpenAgain) -> Store:
    return open_again()


@pytest.fixture
def directory_store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def registry(directory_store: DirectoryStore, clock: FakeClock) -> Registry:
    """An empty registry in a directory, with the tiny base registered."""
    opened = Registry(directory_store, clock=clock, actor="test")
    opened.register_base(PROFILE)
    return opened

"""A real server without create-if-absent: OpenStack Swift behind its S3 API. Nothing writable may be made there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from registry.errors import Refused
from registry.marker import initialise
from registry.store import Store, open_store
from tests.registry import swift


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    try:
        programs = swift.install()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{swift.REQUIREMENT} cannot be installed here: {error.stderr.decode()[-500:]}")
    with swift.running(programs) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ().items():
            patch.setenv(name, value)
        yield open_store(f"s3://{server.bucket}/registry", s3_endpoint=server.endpoint)


def test_swift_is_refused_for_its_races_alone(store: Store) -> None:
    with pytest.raises(Refused, match=r"races: .* had exactly one winner"):
        initialise(store)
    assert list(store.list("")) == []


def test_swift_may_be_read(store: Store) -> None:
    marker = initialise(store, read_only=True)
    assert (marker.read_only, marker.verdict.passed) == (True, False)
    assert [check.name for check in marker.verdict.checks if check.passed is False] == ["races"]

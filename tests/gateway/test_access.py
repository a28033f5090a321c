from __future__ import annotations

import hashlib

import pytest

from registry.errors import Invalid, Refused
from serving.gateway.access import is_loopback, require_guarded
from serving.gateway.credentials import Credentials
from serving.gateway.errors import Unauthorized

KEY = "sk-lorimer"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    require_guarded(host, Credentials("", "default"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])  # noqa: S104
def test_any_other_bind_without_keys_is_refused(host: str) -> None:
    with pytest.raises(Refused, match="API_KEY_HASHES"):
        require_guarded(host, Credentials("", "default"))
    require_guarded(host, Credentials(HASH, "default"))


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer {KEY} "])
def test_a_known_key_is_let_in(header: str) -> None:
    Credentials(f"{'0' * 64}, {HASH.upper()}", "default").principal(header)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer nonsense", f"Basic {KEY}", KEY, HASH])
def test_anything_else_is_not(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        Credentials(HASH, "default").principal(header)


def test_a_key_in_the_clear_is_not_taken_for_a_hash() -> None:
    with pytest.raises(Invalid):
        Credentials(KEY, "default")

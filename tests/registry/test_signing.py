"""Keys and signatures: good in one place only, private halves kept private."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import Conflict, Invalid, NotFound, Refused
from registry.log import Signature
from registry.signing import MAX_SIGNATURES, SigningKey, check_key_id, new_key, read_key, read_key_ids, signers_of

_KEY = SigningKey(Ed25519PrivateKey.generate())


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return new_key(tmp_path / "a.key")


def test_a_key_survives_its_file(tmp_path: Path, key: SigningKey) -> None:
    assert read_key(tmp_path / "a.key").id == key.id == check_key_id(key.id)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert (tmp_path / "a.key").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_key_is_never_overwritten_or_shown(tmp_path: Path, key: SigningKey) -> None:
    before = (tmp_path / "a.key").read_bytes()
    with pytest.raises(Conflict, match="exists already"):
        new_key(tmp_path / "a.key")
    assert (tmp_path / "a.key").read_bytes() == before
    assert repr(key) == f"SigningKey({key.id})"


def test_keys_that_are_refused(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(NotFound, match="key new"):
        read_key(tmp_path / "absent.key")
    (tmp_path / "a.key").chmod(0o644)
    with pytest.raises(Refused, match="every user") as caught:
        read_key(tmp_path / "a.key")
    assert caught.value.hint.startswith("chmod 600")
    (tmp_path / "b.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    (tmp_path / "b.key").chmod(0o600)
    with pytest.raises(Invalid) as invalid:
        read_key(tmp_path / "b.key")
    assert "c2VjcmV0" not in str(invalid.value)
    curve = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "b.key").write_bytes(curve)
    with pytest.raises(Invalid, match="not an Ed25519 key"):
        read_key(tmp_path / "b.key")


def test_trusted_keys(tmp_path: Path, key: SigningKey) -> None:
    other = new_key(tmp_path / "b.key")
    file = tmp_path / "trusted"
    file.write_text(f"# roots\n{key.id} ada, in the safe\n\n  {other.id}\n")
    assert read_key_ids(file) == {key.id, other.id}
    for text, problem in (("# nobody\n", "names no key"), ("ed25519:123\n", "not a public key")):
        file.write_text(text)
        with pytest.raises(Invalid, match=problem):
            read_key_ids(file)
    with pytest.raises(NotFound):
        read_key_ids(tmp_path / "absent")


def test_signatures(tmp_path: Path, key: SigningKey) -> None:
    good = key.sign(b"payload", "t/x/a/support")
    other = new_key(tmp_path / "b.key").sign(b"payload", "t/x/a/support")
    assert signers_of(b"payload", "t/x/a/support", [good, other, good]) == (good.keyid, other.keyid)
    assert signers_of(b"payloae", "t/x/a/support", [good]) == ()
    assert signers_of(b"payload", "t/x/a/suppors", [good]) == ()
    assert signers_of(b"payload", "t/x/a/support", [Signature(keyid=other.keyid, sig=good.sig)]) == ()


@pytest.mark.parametrize("sig", ["", "!", "AAAA", base64.b64encode(bytes(64)).decode()])
@pytest.mark.parametrize("keyid", ["", "ed25519:", "ed25519:" + "0" * 64, "ed25519:" + "f" * 64, "rsa:1"])
def test_nonsense_is_nobodys_signature(keyid: str, sig: str) -> None:
    assert signers_of(b"x", "place", [Signature(keyid=keyid, sig=sig)]) == ()


def test_no_event_makes_a_reader_verify_without_end(key: SigningKey) -> None:
    nonsense = [Signature(keyid=key.id, sig=base64.b64encode(bytes(64)).decode())] * MAX_SIGNATURES
    assert signers_of(b"x", "place", [*nonsense, key.sign(b"x", "place")]) == ()


@given(data=st.binary(max_size=64), place=st.text(max_size=20), at=st.integers(0, 511))
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_voids_a_signature(data: bytes, place: str, at: int) -> None:
    made = _KEY.sign(data, place)
    assert signers_of(data, place, [made]) == (_KEY.id,)
    raw = bytearray(base64.b64decode(made.sig))
    raw[at // 8] ^= 1 << at % 8
    assert signers_of(data, place, [Signature(keyid=_KEY.id, sig=base64.b64encode(raw).decode())]) == ()

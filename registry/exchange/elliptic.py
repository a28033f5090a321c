"""Elliptic-curve keys in PEM files: the kind that model signing verifies. Reads keys; makes and stores none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry.canonical import sha256
from registry.errors import Invalid, NotFound, Unavailable

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey
Key = TypeVar("Key")

HOW_TO_MAKE = (
    "openssl ecparam -name prime256v1 -genkey -noout -out key.pem; openssl ec -in key.pem -pubout -out key.pub"
)
_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def read_private_key(path: Path) -> PrivateKey:
    key = _load(path, lambda pem: serialization.load_pem_private_key(pem, None), "private")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise _wrong_kind(path)
    return key


def read_public_key(path: Path) -> PublicKey:
    key = _load(path, serialization.load_pem_public_key, "public")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise _wrong_kind(path)
    return key


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Deterministic (RFC 6979): the same key and data make the same signature."""
    return key.sign(data, ec.ECDSA(_HASHES[key.curve.name], deterministic_signing=True))


def is_signed(data: bytes, signature: bytes, key: PublicKey) -> bool:
    try:
        key.verify(signature, data, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> str:
    """How verifiers of model signatures recognise a key: sha256 of its PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(key.public_bytes(serialization.Encoding.PEM, form))


def _load(path: Path, load: Callable[[bytes], Key], what: str) -> Key:
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"there is no {what} key {path}", hint=HOW_TO_MAKE) from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the reason could quote the file
        raise Invalid(f"{path} is not a {what} key in PEM without a password", hint=HOW_TO_MAKE, param="key") from None


def _wrong_kind(path: Path) -> Invalid:
    return Invalid(f"{path} is not a key on P-256, P-384 or P-521, the curves of model signing", hint=HOW_TO_MAKE)

"""Ed25519 keys and signatures over events, in DSSE's way. Knows nothing of what a key may do.

    ed25519:<64 hex>      a key's id is its public half, so that verifying needs no store of keys
    DSSEv1 <type> <body>  what is signed; the type names the log, so that a signature is good in one place only

Private keys are PEM files (PKCS #8) outside the bucket, readable by their owner.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from registry.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from registry.log import Signature

PREFIX = "ed25519:"
PAYLOAD_TYPE = "application/vnd.lorimer.event+json"
MAX_SIGNATURES = 16
"""More are not looked at: verifying must stay cheap whoever wrote the event."""
_KEY_ID = re.compile(r"ed25519:[0-9a-f]{64}")
_OTHERS = 0o007


@dataclass(frozen=True)
class SigningKey:
    """A private key. `id` is public; nothing else of it is ever shown."""

    private: Ed25519PrivateKey

    @property
    def id(self) -> str:
        return PREFIX + self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, payload: bytes, place: str) -> Signature:
        made = self.private.sign(_to_be_signed(payload, place))
        return Signature(keyid=self.id, sig=base64.b64encode(made).decode())

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"


def signers_of(payload: bytes, place: str, signatures: Sequence[Signature]) -> tuple[str, ...]:
    """The keys whose signature of `payload` at `place` is good, each once."""
    signed = _to_be_signed(payload, place)
    good = (each.keyid for each in signatures[:MAX_SIGNATURES] if _is_good(each, signed))
    return tuple(dict.fromkeys(good))


def check_key_id(text: str) -> str:
    if not _KEY_ID.fullmatch(text):
        raise Invalid(f"not a public key: {text[:100]!r}", hint="it looks like ed25519: and 64 hex digits")
    return text


def short(key: str) -> str:
    """Enough of a key's id to tell it from others."""
    return key[: len(PREFIX) + 12]


def new_key(path: Path) -> SigningKey:
    """Make a key and write it, readable by this user alone; never over another file."""
    key = SigningKey(Ed25519PrivateKey.generate())
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise Conflict(f"{path} exists already", hint="name a new file; a key is never overwritten") from None
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror or error}") from error
    return key


def read_key(path: Path) -> SigningKey:
    """A private key from its file; Refused where every user of the machine can read it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise Refused(f"every user of this machine can use the key {path}", hint=f"chmod 600 {path}")
            pem = file.read()
    except FileNotFoundError:
        raise NotFound(f"there is no key {path}", hint="make one: lorimer registry key new") from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):  # the reason could quote the file
        raise Invalid(f"{path} is not an unencrypted private key in PEM", param="signing_key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise Invalid(f"{path} is not an Ed25519 key", hint="make one: lorimer registry key new", param="signing_key")
    return SigningKey(private)


def read_key_ids(path: Path) -> frozenset[str]:
    """Public keys, one a line; what follows a key, and lines that start with #, are for people."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"there is no file of trusted keys {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"cannot read {path}: {error}") from error
    words = [line.split() for line in lines if not line.lstrip().startswith("#")]
    keys = frozenset(check_key_id(found[0]) for found in words if found)
    if not keys:
        raise Invalid(f"{path} names no key", hint="lorimer registry key show prints one", param="trusted_keys")
    return keys


def _to_be_signed(payload: bytes, place: str) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = f"{PAYLOAD_TYPE};log={place}".encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _is_good(signature: Signature, signed: bytes) -> bool:
    if not _KEY_ID.fullmatch(signature.keyid):
        return False
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.keyid.removeprefix(PREFIX)))
    try:
        public.verify(base64.b64decode(signature.sig, validate=True), signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True

"""Model signatures as OpenSSF Model Signing writes them: one Sigstore bundle over the digests of all files.

    bundle (Sigstore v0.3) > DSSE envelope > in-toto statement > resources: (file, sha256), each file of the model

What we sign carries the version's manifest too, in a field that other verifiers pass over, so that the digest
survives the journey. Signs and verifies with elliptic-curve keys; certificates and transparency logs are not read.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from registry.canonical import canonical, sha256
from registry.errors import Corrupt, Refused
from registry.exchange import elliptic
from registry.manifest import Manifest, digest

SIGNATURE_FILE = "model.sig"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BYTES = 16 << 20
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_IGNORED = (".git", ".gitattributes", ".github", ".gitignore", SIGNATURE_FILE)


class _Resource(msgspec.Struct):
    name: str
    digest: str
    algorithm: str


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str
    ignore_paths: tuple[str, ...] = ()


class _Ours(msgspec.Struct):
    """What other verifiers pass over."""

    digest: str
    manifest: Manifest


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: tuple[_Resource, ...]
    lorimer: _Ours | None = None


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, rename="camel"):
    kind: str = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: _Predicate


class _Signature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    dsse_envelope: _Envelope


@dataclass(frozen=True)
class Signed:
    """What a verified bundle vouches for. `files`: path -> sha256; `ignored`: paths that it says nothing about."""

    files: Mapping[str, str]
    ignored: tuple[str, ...]
    manifest: Manifest | None


def sign(manifest: Manifest, name: str, key: elliptic.PrivateKey) -> bytes:
    """The bundle for a version's files; the same version, name and key make the same bytes."""
    payload = canonical(_statement(manifest, name))
    signature = elliptic.sign(key, _to_be_signed(payload))
    return canonical(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": elliptic.fingerprint(key.public_key())},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": _PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
    )


def verify(bundle: bytes, key: elliptic.PublicKey) -> Signed:
    """Refused unless this key signed it; nothing of the statement is read before."""
    try:
        envelope = msgspec.json.decode(bundle, type=_Bundle).dsse_envelope
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = [base64.b64decode(each.sig, validate=True) for each in envelope.signatures]
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise Refused(f"the signature is not a Sigstore bundle: {error}") from error
    signed = _to_be_signed(payload)
    if envelope.payload_type != _PAYLOAD_TYPE or not any(elliptic.is_signed(signed, each, key) for each in signatures):
        raise Refused("the signature was not made with this key, or what it signs was altered")
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"the signature says nothing that we can read of a model's files: {error}") from error
    return _read(statement)


def _statement(manifest: Manifest, name: str) -> dict[str, Any]:
    entries = sorted(manifest.files, key=lambda entry: entry.path.split("/"))
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root([entry.sha256 for entry in entries])}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": _IGNORED,
            },
            "resources": [{"name": e.path, "algorithm": "sha256", "digest": e.sha256} for e in entries],
            "lorimer": {"digest": digest(manifest), "manifest": manifest},
        },
    }


def _read(statement: _Statement) -> Signed:
    predicate, ours = statement.predicate, statement.predicate.lorimer
    if statement.kind != _STATEMENT_TYPE or statement.predicate_type != _PREDICATE_TYPE:
        raise Refused(f"the signature is a {statement.predicate_type}, not a {_PREDICATE_TYPE}")
    method = (predicate.serialization.method, predicate.serialization.hash_type)
    if method != ("files", "sha256") or any(each.algorithm != "sha256" for each in predicate.resources):
        raise Refused(f"the signature covers {method[0]} by {method[1]}; only files by sha256 are understood")
    files = {each.name: each.digest for each in predicate.resources}
    digests = [each.digest for each in predicate.resources]
    if not all(re.fullmatch(r"[0-9a-f]{64}", each) for each in digests) or len(files) != len(digests):
        raise Corrupt("the signature's list of files is not one")
    if [each.digest.get("sha256") for each in statement.subject] != [_root(digests)]:
        raise Corrupt("the signature contradicts itself: its files do not have the digest of its subject")
    if ours is not None and digest(ours.manifest) != ours.digest:
        raise Refused("the signed manifest says more than this program reads", hint="update lorimer")
    return Signed(files, predicate.serialization.ignore_paths, ours.manifest if ours else None)


def _root(digests: list[str]) -> str:
    return sha256(b"".join(bytes.fromhex(each) for each in digests))


def _to_be_signed(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)

"""Model signatures: made and read as the real `model_signing` makes and reads them; any altered byte is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from registry.adapters import Registry
from registry.canonical import canonical
from registry.errors import Corrupt, Invalid, NotFound, Refused
from registry.exchange import bundle
from registry.exchange.elliptic import read_private_key, read_public_key, sign
from registry.exchange.export import export
from registry.exchange.parcel import open_parcel
from tests.registry.folders import write_folder
from tests.registry.keys import write_keys, write_pair
from tests.registry.model_signing import ModelSigning, model_signing

__all__ = ["model_signing"]


@pytest.fixture
def published(registry: Registry, tmp_path: Path) -> Registry:
    registry.publish("support", write_folder(tmp_path / "one"), aliases={"prod": None})
    return registry


CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_the_real_verifier_accepts_what_we_sign(
    published: Registry, tmp_path: Path, model_signing: ModelSigning, curve: ec.EllipticCurve
) -> None:
    private, public = write_keys(tmp_path, curve=curve)
    out = tmp_path / "out"
    export(published, "support", out, form="oms", key=read_private_key(private))
    arguments = ("verify", "key", "--public_key", public, "--signature", out / "model.sig", out)
    done = model_signing(*arguments)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr
    with (out / "adapter_config.json").open("a") as file:
        file.write(" ")
    done = model_signing(*arguments)
    assert done.returncode != 0
    assert "Hash mismatch" in done.stderr


def test_we_accept_what_the_real_signer_signs(tmp_path: Path, model_signing: ModelSigning) -> None:
    private, public = write_keys(tmp_path)
    folder = write_folder(tmp_path / "one")
    done = model_signing("sign", "key", "--private_key", private, "--signature", folder / "model.sig", folder)
    assert done.returncode == 0, done.stderr
    parcel = open_parcel(folder, key=read_public_key(public))
    assert sorted(parcel.files) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (parcel.manifest, parcel.is_signed) == (None, True)


def test_the_same_version_and_key_make_the_same_bytes(published: Registry, tmp_path: Path) -> None:
    key = read_private_key(write_keys(tmp_path)[0])
    for name in ("a", "b"):
        export(published, "support", tmp_path / name, form="oms", key=key)
    assert (tmp_path / "a" / "model.sig").read_bytes() == (tmp_path / "b" / "model.sig").read_bytes()


def test_no_byte_of_a_signature_can_be_altered_unseen(published: Registry, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    export(published, "support", tmp_path / "out", form="oms", key=read_private_key(private))
    sealed = (tmp_path / "out" / "model.sig").read_bytes()
    key, whole = read_public_key(public), bundle.verify(sealed, read_public_key(public))
    for position in range(0, len(sealed), 7):
        altered = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        try:
            assert bundle.verify(altered, key) == whole
        except Refused:
            continue


Alter = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), Refused, "not a https://model_signing"),
        (lambda s: s["predicate"]["serialization"].update(method="shards"), Refused, "shards by sha256"),
        (lambda s: s["predicate"]["resources"][0].update(algorithm="blake3"), Refused, "only files by sha256"),
        (lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]), Corrupt, "list of files"),
        (lambda s: s["predicate"]["resources"][0].update(digest="0" * 64), Corrupt, "contradicts itself"),
        (lambda s: s["predicate"]["lorimer"].update(digest="sha256:0"), Refused, "update lorimer"),
        (lambda s: s.pop("subject"), Refused, "nothing that we can read"),
    ],
)
def test_signed_nonsense_is_refused(
    published: Registry, tmp_path: Path, alter: Alter, error: type[Exception], message: str
) -> None:
    private, public = write_keys(tmp_path)
    key = read_private_key(private)
    sealed = json.loads(bundle.sign(published.resolve("support").manifest, "support", key))
    envelope = sealed["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    alter(statement)
    payload, kind = canonical(statement), "application/vnd.in-toto+json"
    made = sign(key, b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload))
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"] = [{"sig": base64.b64encode(made).decode(), "keyid": ""}]
    with pytest.raises(error, match=message):
        bundle.verify(canonical(sealed), read_public_key(public))


def test_other_keys_are_refused(published: Registry, tmp_path: Path) -> None:
    sealed = bundle.sign(
        published.resolve("support").manifest, "support", read_private_key(write_keys(tmp_path, "mine")[0])
    )
    with pytest.raises(Refused, match="not made with this key"):
        bundle.verify(sealed, read_public_key(write_keys(tmp_path, "other")[1]))
    with pytest.raises(Refused, match="not a Sigstore bundle"):
        bundle.verify(b"{}", read_public_key(tmp_path / "mine.pub"))


def test_keys_of_other_kinds_say_what_to_do(tmp_path: Path) -> None:
    for name, key in {
        "edwards": ed25519.Ed25519PrivateKey.generate(),
        "koblitz": ec.generate_private_key(ec.SECP256K1()),
    }.items():
        private, public = write_pair(tmp_path, name, key)
        with pytest.raises(Invalid, match=r"not a key on P-256.*openssl ecparam"):
            read_private_key(private)
        with pytest.raises(Invalid, match="not a key on P-256"):
            read_public_key(public)
    private, public = write_keys(tmp_path)
    with pytest.raises(Invalid, match="not a private key"):
        read_private_key(public)
    with pytest.raises(Invalid, match="not a public key"):
        read_public_key(private)
    with pytest.raises(NotFound, match="openssl"):
        read_private_key(tmp_path / "absent")

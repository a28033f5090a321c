"""Damage in the store reaches no answer: what is loaded goes on serving, what is damaged is named and not served."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from registry.adapters import Registry
from registry.directory import DirectoryStore

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def root_of(running: Running) -> Path:
    store = running.registry.store
    assert isinstance(store, DirectoryStore)
    return store.root


def flipped(data: bytes) -> bytes:
    """One bit, in the middle."""
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]


def flip(running: Running, key: str) -> None:
    path = root_of(running) / key
    path.write_bytes(flipped(path.read_bytes()))


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def test_an_alias_put_to_a_damaged_version_goes_on_meaning_the_one_before(running: Running) -> None:
    """Told in the answer's headers; whoever names the damaged version is told what is wrong with it."""
    first = running.publish("flipped", 11)
    before = said(running.chat("flipped"))
    second = running.publish("flipped", 12, prod=False)
    weights = next(entry for entry in second.manifest.files if entry.path.endswith(".safetensors"))
    flip(running, second.blob_key(weights.sha256))
    running.registry.alias("flipped", "prod", second)
    answer = running.chat("flipped")
    assert said(answer) == before
    assert (answer.headers["x-adapter-digest"], answer.headers["x-adapter-instead-of"]) == (first.digest, second.digest)
    assert answer.json()["system_fingerprint"] == first.digest
    damaged = running.chat("flipped@v2")
    assert (damaged.status_code, damaged.json()["error"]["code"]) == (500, "corrupt")
    assert "flipped@v2" in damaged.json()["error"]["message"]
    assert said(running.chat("flipped@v1")) == said(running.chat(f"flipped@{first.digest}")) == before
    running.registry.rollback("flipped")
    rolled_back = running.chat("flipped")
    assert said(rolled_back) == before
    assert "x-adapter-instead-of" not in rolled_back.headers


def test_the_first_version_has_none_to_stand_in_for_it(running: Running) -> None:
    version = running.publish("alone", 14)
    weights = next(entry for entry in version.manifest.files if entry.path.endswith(".safetensors"))
    (root_of(running) / version.blob_key(weights.sha256)).unlink()
    damaged = running.chat("alone")
    assert (damaged.status_code, damaged.json()["error"]["code"]) == (500, "corrupt")
    assert "alone@v1 is missing" in damaged.json()["error"]["message"]


def test_a_damaged_log_stops_its_own_adapter_only_and_by_name(running: Running, tmp_path: Path) -> None:
    running.publish("torn", 3)
    said(running.chat("torn"))
    slot, copy = running.registry.adapter_log("torn").slot(2), DirectoryStore(tmp_path / "copy")
    shutil.copytree(root_of(running) / "t", copy.root / "t")
    Registry(copy).alias("torn", "canary", "v1")
    (root_of(running) / slot).write_bytes(flipped(copy.get(slot)))
    damaged = running.chat("torn")
    assert (damaged.status_code, damaged.json()["error"]["code"]) == (500, "corrupt")
    assert slot in damaged.json()["error"]["message"]
    said(running.chat("alpha"))
    (root_of(running) / slot).write_bytes(copy.get(slot))
    said(running.chat("torn"))


def test_a_damaged_hint_changes_nothing(running: Running) -> None:
    version = running.publish("hinted", 13)
    flip(running, "t/default/a/hinted/HEAD")
    answer = running.chat("hinted")
    said(answer)
    assert answer.headers["x-adapter-digest"] == version.digest

"""vLLM's verbs for adapters, in its words; and LoRAX's way to name one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.gateway.conftest import Running


def load(running: Running, name: str, path: str, **fields: Any) -> httpx.Response:
    return running.http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path, **fields})


def unload(running: Running, name: str) -> httpx.Response:
    return running.http.post("/v1/unload_lora_adapter", json={"lora_name": name, "lora_int_id": 1})


def error(response: httpx.Response) -> tuple[int, str, str]:
    told = response.json()["error"]
    assert told["code"] == response.status_code
    return response.status_code, told["type"], told["message"]


def test_an_adapter_is_loaded_kept_and_let_go(running: Running) -> None:
    version = running.publish("verbs", 41)
    residency = running.gateway.residency
    assert not residency.is_resident(version.digest)
    loaded = load(running, "verbs", "verbs@v1")
    assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'verbs' added successfully.")
    assert residency.is_resident(version.digest)
    assert error(load(running, "verbs", "verbs")) == (
        400,
        "InvalidUserInput",
        "The lora adapter 'verbs' has already been loaded. If you want to load the adapter in place, "
        "set 'load_inplace' to True.",
    )
    assert load(running, "verbs", "verbs", load_inplace=True).status_code == 200
    told = running.http.get("/api/audit").json()["records"]
    assert any(record["action"] == "lora.load" and record["what"]["adapter"] == "verbs" for record in told)
    gone = unload(running, "verbs")
    assert (gone.status_code, gone.text) == (200, "Success: LoRA adapter 'verbs' removed successfully.")
    assert error(unload(running, "verbs")) == (404, "NotFoundError", "The lora adapter 'verbs' cannot be found.")
    assert residency.stats().leased == 0
    assert running.chat("verbs", max_tokens=1).status_code == 200


def test_what_is_loaded_follows_its_alias(running: Running) -> None:
    running.publish("followed", 42)
    load(running, "followed", "followed")
    second = running.publish("followed", 43, prod=False)
    running.registry.alias("followed", "prod", "v2")
    follower = running.gateway.tenants.of("default").follower
    until = time.monotonic() + 10
    while not running.gateway.residency.is_resident(second.digest) and time.monotonic() < until:
        follower.poll()
        time.sleep(0.05)
    assert running.gateway.residency.is_resident(second.digest)
    unload(running, "followed")


@pytest.mark.parametrize(
    ("name", "path", "status", "message"),
    [
        ("", "alpha", 400, "Both 'lora_name' and 'lora_path' must be provided."),
        ("alpha", "", 400, "Both 'lora_name' and 'lora_path' must be provided."),
        ("alpha", "nobody", 404, "Loading lora alpha failed: No adapter found for nobody"),
        ("alpha", "alpha@v9", 404, "Loading lora alpha failed: No adapter found for alpha@v9"),
        ("alpha", "beta", 400, "'alpha' is no name of 'beta'; names are given in the registry"),
        ("alpha", "/models/alpha", 400, None),
        ("alpha", "https://example.org/alpha", 400, None),
        ("alpha", "s3://bucket/alpha", 400, None),
        ("alpha", "../alpha", 400, None),
        ("alpha", "org/repo/alpha", 400, None),
    ],
)
def test_only_what_the_registry_has_can_be_loaded(
    running: Running, name: str, path: str, status: int, message: str | None
) -> None:
    code, kind, told = error(load(running, name, path))
    assert code == status
    assert kind == ("NotFoundError" if status == 404 else "InvalidUserInput")
    assert told == message if message else told.startswith("no path and no URL")


def test_the_base_is_no_adapter(running: Running) -> None:
    told = error(load(running, running.base_name, "alpha"))
    assert told[2] == f"The lora adapter '{running.base_name}' conflicts with a served base model."
    assert error(unload(running, ""))[2] == "'lora_name' needs to be provided to unload a LoRA adapter."


def test_lorax_names_the_adapter_beside_the_base(running: Running) -> None:
    plain = running.chat("beta@v1")
    named = running.chat(running.base_name, adapter_id="beta@v1", adapter_source="registry")
    assert named.status_code == 200, named.text
    assert named.json()["choices"] == plain.json()["choices"]
    assert named.json()["model"] == "beta@v1"
    assert named.headers["x-adapter-digest"] == plain.headers["x-adapter-digest"]
    body = {"model": "beta", "adapter_id": "beta", "prompt": "x", "max_tokens": 2}
    assert running.http.post("/v1/completions", json=body).json()["model"] == "beta"
    vectors = {"model": running.base_name, "adapter_id": "beta", "input": "x"}
    assert running.http.post("/v1/embeddings", json=vectors).json()["model"] == "beta"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "alpha", "adapter_id": "beta"}, "adapter_id"),
        ({"adapter_id": "nobody"}, "model"),
        ({"adapter_id": "beta", "adapter_source": "hub"}, "adapter_source"),
        ({"adapter_id": "beta", "adapters": [{"model": "alpha", "weight": 1}] * 2}, "adapter_id"),
    ],
)
def test_an_adapter_id_that_cannot_be_meant(running: Running, fields: dict[str, Any], param: str) -> None:
    body = {"model": running.base_name, "messages": [{"role": "user", "content": "x"}], **fields}
    response = running.http.post("/v1/chat/completions", json=body)
    assert response.status_code == (404 if param == "model" else 400)
    assert response.json()["error"]["param"] == param

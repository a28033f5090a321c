"""Embeddings over HTTP, against what transformers computes."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.gateway.conftest import Running


def embed(running: Running, input: Any, model: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"model": model or running.base_name, "input": input, **fields}
    response = running.http.post("/v1/embeddings", json=body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def expected(running: Running, text: str) -> NDArray[np.float32]:
    tree = running.base.module_tree()
    ids = torch.tensor([running.base.tokenizer.encode(text)])
    with torch.inference_mode():
        mean = tree(ids, output_hidden_states=True).hidden_states[-1][0].mean(dim=0).numpy()
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def test_the_base_embeds_as_transformers_does(running: Running) -> None:
    document = embed(running, "the router is broken")
    (only,) = document["data"]
    assert document["object"] == "list"
    assert (only["object"], only["index"]) == ("embedding", 0)
    np.testing.assert_allclose(only["embedding"], expected(running, "the router is broken"), atol=1e-5)
    tokens = len(running.base.tokenizer.encode("the router is broken"))
    assert document["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert document["model"] == running.base_name


def test_an_adapter_embeds_otherwise_and_says_which_it_was(running: Running) -> None:
    body = {"model": "alpha@v1", "input": "hello there"}
    response = running.http.post("/v1/embeddings", json=body)
    assert response.headers["x-adapter-digest"] == running.registry.resolve("alpha").digest
    vector = np.array(response.json()["data"][0]["embedding"])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert abs(vector - expected(running, "hello there")).max() > 0.01


def test_a_batch_keeps_its_order_whatever_its_size_and_shape(running: Running) -> None:
    texts = [f"text number {number}" for number in range(100)]
    vectors = [each["embedding"] for each in embed(running, texts)["data"]]
    for number in (0, 31, 32, 99):
        np.testing.assert_allclose(vectors[number], expected(running, texts[number]), atol=1e-5)
    ids = [running.base.tokenizer.encode(text) for text in texts[:2]]
    np.testing.assert_allclose([each["embedding"] for each in embed(running, ids)["data"]], vectors[:2], atol=1e-5)
    np.testing.assert_allclose(embed(running, ids[1])["data"][0]["embedding"], vectors[1], atol=1e-5)


def test_base64_is_the_same_numbers(running: Running) -> None:
    plain = embed(running, "same")["data"][0]["embedding"]
    packed = embed(running, "same", encoding_format="base64")["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), dtype="<f4"), np.float32(plain))


def test_texts_and_chats_share_batches_and_leave_no_row(running: Running) -> None:
    embed(running, ["a" * 200] * 40, "beta")
    stats = running.gateway.engine.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    assert running.gateway.residency.stats().leased == 0


def test_hanging_up_frees_every_row(running: Running) -> None:
    texts = ["a long text of many words " * 20] * 2000
    with pytest.raises(httpx.ReadTimeout):
        running.http.post("/v1/embeddings", json={"model": "alpha", "input": texts}, timeout=1)
    until = time.monotonic() + 5
    while running.gateway.engine.stats().running + running.gateway.engine.stats().waiting and time.monotonic() < until:
        time.sleep(0.01)
    assert running.gateway.engine.stats().running == running.gateway.engine.stats().waiting == 0
    assert running.gateway.residency.stats().leased == 0


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": [1, -1]}, "input", "invalid_value"),
        ({"input": "a" * 2000}, "input", "context_length_exceeded"),
        ({"dimensions": 16}, "dimensions", "unsupported_parameter"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"model": "nobody"}, "model", "model_not_found"),
    ],
)
def test_what_cannot_be_embedded_is_said(running: Running, fields: dict[str, Any], param: str, code: str) -> None:
    response = running.http.post("/v1/embeddings", json={"model": running.base_name, "input": "x", **fields})
    assert response.status_code == (404 if code == "model_not_found" else 400)
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)


def test_the_dimensions_there_are_may_be_asked_for(running: Running) -> None:
    size = running.base.input_embeddings.shape[1]
    assert len(embed(running, "x", dimensions=size)["data"][0]["embedding"]) == size

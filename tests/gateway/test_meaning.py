"""Embeddings and calls by a model that understands: the real SmolLM2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.gateway.conftest import Running, run
from tests.gateway.tools.conftest import TEMPLATE

if TYPE_CHECKING:
    from serving.base import Base

pytestmark = pytest.mark.real_model

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def real(real_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With a template that knows tools; the model's own does not."""
    base, root = real_base.twin(), tmp_path_factory.mktemp("real")
    base.tokenizer.chat_template = TEMPLATE
    yield from run(base, root)


def embeddings(real: Running, texts: list[str]) -> Any:
    body = {"model": real.base_name, "input": texts}
    data = real.http.post("/v1/embeddings", json=body).json()["data"]
    return np.array([each["embedding"] for each in data])


def test_what_means_the_same_lies_closer(real: Running) -> None:
    pairs = [
        ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
        ("Shares fell sharply on Wall Street today.", "The stock market dropped a lot this afternoon."),
        ("My internet connection does not work.", "I cannot get online, the network is down."),
        ("She won the tennis final in straight sets.", "The player took the title without losing a set."),
    ]
    vectors = embeddings(real, [text for pair in pairs for text in pair])
    vectors = vectors - vectors.mean(axis=0)
    likeness = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    np.fill_diagonal(likeness, -1)
    assert [int(row.argmax()) for row in likeness] == [1, 0, 3, 2, 5, 4, 7, 6]


@pytest.mark.parametrize("city", ["Oslo", "Paris", "Tokyo"])
def test_a_call_has_the_arguments_that_were_asked_for(real: Running, city: str) -> None:
    body = {
        "model": real.base_name,
        "messages": [{"role": "user", "content": f"What is the weather like in {city} today?"}],
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    choice = real.http.post("/v1/chat/completions", json=body).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": city}

"""The official client over real HTTP: several adapters and the base at once, streaming and not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=10, temperature=0
    )
    return answer.choices[0].message.content or ""


def test_all_adapters_share_batches_and_keep_their_answers(running: Running, client: openai.OpenAI) -> None:
    models = [running.base_name, "alpha", "beta", "gamma"]
    alone = {model: ask(client, model) for model in models}
    running.gateway.engine.reset_peak()

    async def streamed(client: openai.AsyncOpenAI, model: str) -> str:
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=10,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        assert {chunk.model for chunk in chunks} == {model}
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    async def whole(client: openai.AsyncOpenAI, model: str) -> str:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=10, temperature=0
        )
        return answer.choices[0].message.content or ""

    async def together() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(base_url=f"{running.server.url}/v1", api_key="x", max_retries=0) as shared:
            asked = [(model, kind(shared, model)) for _ in range(4) for model in models for kind in (streamed, whole)]
            texts = await asyncio.gather(*(answer for _, answer in asked))
            return [(model, text) for (model, _), text in zip(asked, texts, strict=True)]

    answers = asyncio.run(together())
    assert len(answers) == 32
    assert all(text == alone[model] for model, text in answers)
    assert running.gateway.engine.stats().peak_distinct_adapters >= 3


def test_errors_arrive_as_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, "nobody")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(
            model="alpha", messages=[{"role": "user", "content": "x"}], top_p=0.5, max_tokens=1 << 20
        )
    assert bad.value.code == "context_length_exceeded"


def test_models_and_plain_completions(client: openai.OpenAI) -> None:
    assert {"alpha", "beta", "gamma"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("alpha@v1").id == "alpha@v1"
    text = client.completions.create(model="alpha", prompt="Once", max_tokens=5, temperature=0)
    parts = client.completions.create(model="alpha", prompt="Once", max_tokens=5, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts) == text.choices[0].text


def test_identity_headers_are_reachable(running: Running, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="beta", messages=[{"role": "user", "content": "x"}], max_tokens=1
    )
    assert raw.headers["x-adapter-digest"] == running.registry.resolve("beta").digest
    assert raw.parse().system_fingerprint == raw.headers["x-adapter-digest"]

"""What an answered request leaves in the bucket for the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monitoring.observation import Observation, decode, prompt_scalars
from monitoring.sensor import observations_prefix

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def observed(running: Running) -> dict[str, Observation]:
    running.gateway.home.sensor.flush()
    store, prefix = running.registry.store, observations_prefix(running.registry.tenant)
    return {each.request_id: each for key in store.list(prefix) for each in decode(store.get(key), key)}


def test_one_observation_for_each_answer_by_an_adapter(fresh: Running) -> None:
    version = fresh.publish("seen", 1)
    answers = [fresh.chat("seen", text, max_tokens=3) for text in ("a", "a much longer question", "a")]
    fresh.chat(fresh.base_name, max_tokens=1)
    fresh.chat("seen", max_tokens=1 << 20)
    found = observed(fresh)
    assert set(found) == {answer.json()["id"] for answer in answers}
    first, second, third = (found[answer.json()["id"]] for answer in answers)
    assert (first.adapter, first.version, first.digest) == ("seen", 1, version.digest)
    assert first.session == first.request_id
    prompt_tokens = answers[0].json()["usage"]["prompt_tokens"]
    assert first.scalars.items() >= prompt_scalars(prompt_tokens).items()
    assert first.embedding.shape == (fresh.base.profile.hidden_size,)
    assert np.allclose(first.embedding, third.embedding, atol=1e-5)
    assert not np.allclose(first.embedding, second.embedding, atol=1e-3)


def test_the_session_is_the_header_else_the_user(fresh: Running) -> None:
    fresh.publish("seen", 1)
    body = {"model": "seen", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "user": "ada"}
    by_user = fresh.http.post("/v1/chat/completions", json=body).json()["id"]
    headed = fresh.http.post("/v1/chat/completions", json=body, headers={"x-session-id": "visit"}).json()["id"]
    found = observed(fresh)
    named = fresh.gateway.home.pseudonyms.of
    assert (found[by_user].session, found[headed].session) == (named("ada"), named("visit")), "under pseudonyms"


def test_the_embedding_is_the_mean_of_the_prompts_input_embeddings(fresh: Running) -> None:
    fresh.publish("seen", 1)
    answer = fresh.chat("seen", "what a question", max_tokens=1).json()
    prompt = fresh.base.render([{"role": "user", "content": "what a question"}])
    expected = fresh.base.input_embeddings[prompt].float().mean(0).numpy()
    assert np.allclose(observed(fresh)[answer["id"]].embedding, expected, atol=1e-4)

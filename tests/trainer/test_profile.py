from typing import Any

import numpy as np

from monitoring.basis import load_basis
from registry.adapters import Registry
from serving.request import Request, Sampling
from tests.trainer.letters import letters
from trainer.dataset import Example
from trainer.profile import input_samples, profile_input
from trainer.rendering import render_prompt
from trainer.rows import Message


def examples(count: int, **meta: Any) -> list[Example]:
    return [
        Example((Message("user", letters("vowels", i)), Message("assistant", "v")), "v", meta) for i in range(count)
    ]


def test_samples_are_what_the_engine_reports_of_live_requests(tiny_base: Any, engine: Any) -> None:
    (row,) = examples(1, group="dialogue-1")
    (sample,) = input_samples(tiny_base, [row])
    prompt = tuple(render_prompt(tiny_base, row.prompt))
    (completion,) = engine.run([Request("one", prompt, Sampling(max_tokens=0), want_features=True)])
    np.testing.assert_allclose(sample.embedding, completion.features.embedding_mean, rtol=1e-5, atol=1e-6)
    assert sample.session == "dialogue-1"


def test_a_profile_uses_the_bases_one_basis(registry: Registry, tiny_base: Any) -> None:
    first = profile_input(registry.store, tiny_base, examples(60))
    assert first is not None
    basis = load_basis(registry.store, tiny_base.profile.identity.weights_sha256)
    assert first.basis_sha256 == basis.sha256
    assert first.num_sessions == 60


def test_too_few_sessions_make_no_profile(registry: Registry, tiny_base: Any) -> None:
    assert profile_input(registry.store, tiny_base, examples(30)) is None
    assert profile_input(registry.store, tiny_base, examples(80, group="all one session")) is None

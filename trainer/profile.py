"""The profile of an adapter's normal input, from the prompts it was tuned on. The statistics are monitoring's.

The monitored feature is the mean of the frozen base's input embeddings over a prompt: exactly what the engine reports
for live requests (`Features.embedding_mean`), and the same for every adapter, so no forward pass is spent on it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from monitoring.basis import MIN_ROWS, Basis, get_or_create
from monitoring.observation import prompt_scalars
from monitoring.reference import MIN_SESSIONS, Reference, Sample, build_reference
from registry.store import Store
from serving.base import Base
from trainer.dataset import Example
from trainer.rendering import render_prompt

MAX_ROWS = 600


def profile_input(store: Store, base: Base, examples: Sequence[Example], *, seed: int = 0) -> Reference | None:
    """What the monitor compares live traffic with; None where there are too few distinct sessions for a profile."""
    samples = input_samples(base, examples, seed=seed)
    sessions = len({sample.session or i for i, sample in enumerate(samples)})
    if len(samples) < MIN_ROWS or sessions < MIN_SESSIONS:
        return None
    weights = base.profile.identity.weights_sha256
    basis = get_or_create(store, weights, lambda: Basis.fit([sample.embedding for sample in samples], seed=seed))
    return build_reference(basis, samples, seed=seed)


def input_samples(base: Base, examples: Sequence[Example], *, seed: int = 0) -> list[Sample]:
    """At most `MAX_ROWS` prompts' features. Rows of one `meta.group` are one session."""
    chosen = random.Random(seed).sample(list(examples), min(MAX_ROWS, len(examples)))
    samples = []
    for example in chosen:
        prompt = torch.tensor(render_prompt(base, example.prompt), device=base.device)
        embedding = base.input_embeddings.index_select(0, prompt).float().mean(dim=0)
        scalars = prompt_scalars(len(prompt))
        session = str(example.meta.get("group", ""))
        samples.append(Sample(embedding=embedding.cpu().numpy(), scalars=scalars, session=session))
    return samples

"""Which rows make which step: seeded, restartable from a step number alone, and with little padding. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.spec import Train

POOL_STEPS = 8
MICRO_TOKENS = 2048
"""Most padded tokens in one forward: what a larger step is cut into, to bound memory."""


def steps_of_epoch(lengths: Sequence[int], tokens_per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """Every row once, in random order, in steps of at most `tokens_per_step` tokens (but at least one row).

    Rows of a random pool of some steps are sorted by length before they are cut, what does not fill
    a step waits for the next pool, and the steps are shuffled again.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths)).tolist()
    mean = sum(lengths) / max(1, len(lengths))
    pool = max(1, round(POOL_STEPS * tokens_per_step / mean)) if lengths else 1
    steps: list[list[int]] = []
    unfilled: list[int] = []
    for start in range(0, len(order), pool):
        rows = [*unfilled, *order[start : start + pool]]
        *full, unfilled = _cut(sorted(rows, key=lambda row: lengths[row]), lengths, tokens_per_step)
        steps += full
    steps += [unfilled] if unfilled else []
    return [steps[i] for i in rng.permutation(len(steps)).tolist()]


def _cut(rows: Sequence[int], lengths: Sequence[int], tokens_per_step: int) -> list[list[int]]:
    steps: list[list[int]] = []
    held = 0
    for row in rows:
        if not steps or held + lengths[row] > tokens_per_step:
            steps.append([])
            held = 0
        steps[-1].append(row)
        held += lengths[row]
    return steps


def plan(lengths: Sequence[int], train: Train, seed: int) -> list[list[int]]:
    """Row numbers of every step of the whole training."""
    steps: list[list[int]] = []
    for epoch in range(train.epochs):
        steps += steps_of_epoch(lengths, train.tokens_per_step, seed, epoch)
    return steps[: train.steps]


def micro_batches(rows: Sequence[int], lengths: Sequence[int], most_tokens: int | None = None) -> list[list[int]]:
    """One step's rows, sorted by length, in batches of at most `most_tokens` tokens, padding included."""
    limit = MICRO_TOKENS if most_tokens is None else most_tokens
    batches: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        if not batches or lengths[row] * (len(batches[-1]) + 1) > limit:
            batches.append([])
        batches[-1].append(row)
    return batches

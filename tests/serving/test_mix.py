"""A mix is the base plus each part's change times its weight: the same as merging the weights by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import Invalid, Refused
from serving.forward import Forward
from serving.mix import mix

from .zoo import KINDS, LOW_RANK, Zoo, walk

PROMPT = tuple(range(3, 40))
TOLERANCE = 2e-4
"""Merged by hand, every weight is rounded once for each part."""
SOFT = [number for number, kind in enumerate(KINDS) if kind.get("kind") == "prompt"]
LINEAR = [number for number, kind in enumerate(KINDS) if number not in SOFT and "lora_bias" not in kind]
"""What PEFT can merge into a base without biases."""


def index(**wanted: Any) -> int:
    """The first kind with these options."""
    return next(i for i, kind in enumerate(KINDS) if all(kind.get(key) == value for key, value in wanted.items()))


DORA, EMBEDDED = index(use_dora=True), index(targets=("embed_tokens", "q_proj"))
SAVED_HEAD, SAVED_LINEARS = index(modules_to_save=["lm_head"]), index(modules_to_save=["k_proj", "down_proj"])
IA3_OUT, IA3_IN = index(feedforward_modules=["down_proj"]), index(feedforward_modules=["up_proj", "lm_head"])


def merged_logits(zoo: Zoo, parts: list[tuple[int, float]], tokens: list[int]) -> torch.Tensor:
    """The base with W + sum of w_i (W_i - W) in place of every weight, merged by PEFT where it merges."""
    base = zoo.model(None).state_dict()
    total = {name: weight.clone() for name, weight in base.items()}
    for number, weight in parts:
        state = copy.deepcopy(zoo.model(number)).merge_and_unload().state_dict()
        for name, value in base.items():
            total[name] += weight * (state[name] - value)
    tree = copy.deepcopy(zoo.model(None))
    tree.load_state_dict(total)
    with torch.no_grad():
        logits: torch.Tensor = tree(torch.tensor([tokens])).logits[0]
    return logits


def check(zoo: Zoo, parts: list[tuple[int, float]]) -> None:
    """In one batch with its own parts and a bare row."""
    mixed = mix(zoo.base, [(zoo.adapters[number], weight) for number, weight in parts])
    crowd = Zoo(zoo.base, [], [*zoo.adapters, mixed])
    rows = [(len(zoo.adapters), PROMPT), (parts[0][0], PROMPT[:5]), (None, PROMPT[:9]), (len(zoo.adapters), PROMPT[:1])]
    for (number, _), (_, tokens, logits) in zip(rows, walk(Forward(zoo.base, 4096), crowd, rows, extra=4), strict=True):
        if number == len(zoo.adapters):
            torch.testing.assert_close(logits, merged_logits(zoo, parts, tokens[:-1]), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "parts",
    [
        [(0, 0.7), (1, 0.3)],
        [(0, -1.0)],
        [(2, 0.5), (3, 0.5), (6, 0.25), (9, 2.0)],
        [(DORA, 0.6), (4, 0.4)],
        [(DORA, 1.0), (DORA + 1, -0.5)],
        [(EMBEDDED, 0.5), (0, 0.5)],
        [(EMBEDDED, 0.5), (EMBEDDED + 1, 0.3)],
        [(SAVED_HEAD, 0.4), (0, 0.6)],
        [(SAVED_LINEARS, 0.4), (4, 0.6)],
        [(IA3_OUT, 0.5), (0, 0.5)],
        [(IA3_IN, 0.25), (4, 1.0)],
        [(number, 0.2) for number in LINEAR[:10]],
    ],
)
def test_a_mix_is_an_explicit_merge(zoo: Zoo, parts: list[tuple[int, float]]) -> None:
    check(zoo, parts)


@settings(max_examples=20, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(LINEAR), st.sampled_from([-0.5, 0.3, 0.7, 1.0])),
        min_size=1,
        max_size=4,
        unique_by=lambda part: part[0],
    )
)
def test_any_mix_is_exact_or_refused(zoo: Zoo, parts: list[tuple[int, float]]) -> None:
    try:
        check(zoo, parts)
    except Refused:
        assert any(number >= len(LOW_RANK) for number, _ in parts)


def test_a_soft_prompt_mixes_whole_or_not_at_all(zoo: Zoo) -> None:
    soft, other = zoo.adapters[SOFT[0]], zoo.adapters[SOFT[1]]
    mixed = mix(zoo.base, [(soft, 1.0), (zoo.adapters[0], 0.5)])
    assert mixed.virtual is soft.virtual
    with pytest.raises(Refused, match="both put virtual tokens"):
        mix(zoo.base, [(soft, 1.0), (other, 1.0)])
    with pytest.raises(Refused, match="weight 1"):
        mix(zoo.base, [(soft, 0.5), (zoo.adapters[0], 0.5)])


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (SAVED_HEAD, SAVED_HEAD + 1, "one replaces lm_head"),
        (SAVED_LINEARS, DORA, "k_proj"),
        (IA3_OUT, SAVED_LINEARS, "k_proj"),
        (IA3_OUT, DORA, "scales the input of"),
    ],
)
def test_what_is_not_the_sum_of_its_parts_is_refused(zoo: Zoo, one: int, other: int, words: str) -> None:
    with pytest.raises(Refused, match="cannot mix") as caught:
        mix(zoo.base, [(zoo.adapters[one], 0.5), (zoo.adapters[other], 0.5)])
    assert words in caught.value.message


def test_the_digest_is_of_the_parts_and_their_weights(zoo: Zoo) -> None:
    one, other = zoo.adapters[0], zoo.adapters[1]
    mixed = mix(zoo.base, [(one, 0.7), (other, 0.3)])
    assert mixed.digest.startswith("mix:")
    assert mixed.digest == mix(zoo.base, [(other, 0.3), (one, 0.2), (one, 0.5)]).digest
    assert mixed.digest != mix(zoo.base, [(one, 0.3), (other, 0.7)]).digest
    assert mix(zoo.base, [(one, 1.0)]) is one
    assert mixed.num_bytes > one.num_bytes


@pytest.mark.parametrize("weights", [[], [math.nan], [math.inf]])
def test_a_mix_needs_parts_and_finite_weights(zoo: Zoo, weights: list[float]) -> None:
    with pytest.raises(Invalid):
        mix(zoo.base, [(zoo.adapters[0], weight) for weight in weights])

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Invalid
from serving.request import Sampling
from serving.sampler import DEPTH, Draw, _filter, _likeliest, choose, score

LOGITS = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03]))


def draw(tokens: tuple[int, ...] = (0,), num_prompt: int = 1, seed: int = 0, **sampling: Any) -> Draw:
    forbidden = sampling.pop("forbidden", ())
    return Draw(Sampling(max_tokens=9, **sampling), tokens, num_prompt, seed, forbidden)


def frequencies(times: int = 2000, **sampling: Any) -> Counter[int]:
    counts: Counter[int] = Counter()
    for seed in range(times):
        (choice,) = choose(LOGITS[None], [draw(seed=seed, **sampling)])
        assert choice is not None
        counts[choice.token] += 1
    return counts


def only(logits: torch.Tensor, wish: Draw) -> int:
    (choice,) = choose(logits[None], [wish])
    assert choice is not None
    return choice.token


def test_temperature_zero_is_greedy() -> None:
    assert only(LOGITS, draw(temperature=0)) == 0


def test_samples_follow_the_distribution() -> None:
    counts = frequencies()
    for token, probability in enumerate(LOGITS.exp().tolist()):
        assert counts[token] / 2000 == pytest.approx(probability, abs=0.04)


def test_a_low_temperature_sharpens() -> None:
    assert frequencies(500, temperature=0.3)[0] / 500 > 0.8


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.4}, {0}),
        ({"min_p": 0.4}, {0, 1}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),
        ({}, {0, 1, 2, 3, 4}),
    ],
)
def test_filters_leave_the_right_tokens(sampling: dict[str, Any], left: set[int]) -> None:
    assert set(frequencies(400, **sampling)) == left


@pytest.mark.parametrize("extreme", [{"temperature": 1e-46}, {"temperature": 1e-38}, {"repetition_penalty": 1e-46}])
@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_k": 2}])
def test_a_divisor_that_float32_cannot_hold_is_as_good_as_a_small_one(
    extreme: dict[str, float], filters: dict[str, float]
) -> None:
    """Such a temperature made NaN of every weight, and a filter then failed the whole step."""
    assert only(LOGITS + 2, draw((0,), **extreme | filters)) == 0


def test_a_temperature_that_float32_cannot_hold_makes_all_tokens_alike() -> None:
    assert {only(LOGITS, draw(seed=seed, temperature=1e39)) for seed in range(100)} == set(range(5))


def test_a_nucleus_wider_than_the_candidates_is_still_exact() -> None:
    flat = torch.zeros(5000)
    wide = {only(flat, draw(seed=seed, top_p=0.999)) for seed in range(400)}
    assert max(wide) > 2000


def test_the_same_seed_gives_the_same_token_in_any_company() -> None:
    wish = draw(seed=42, temperature=1.3)
    alone = choose(LOGITS[None], [wish])[0]
    mates = [draw(seed=seed, temperature=0.5) for seed in range(7)]
    crowd = choose(torch.cat([torch.randn(7, 5), LOGITS[None]]), [*mates, wish])
    assert crowd[-1] == alone


def test_penalties_push_seen_tokens_away() -> None:
    assert only(LOGITS, draw((0,), 1, temperature=0, repetition_penalty=5.0)) != 0
    assert only(LOGITS, draw((3, 0), 1, temperature=0, presence_penalty=1.0)) == 1
    assert only(LOGITS, draw((3, 0, 0), 1, temperature=0, frequency_penalty=0.4)) == 1
    assert only(LOGITS, draw((0,), 1, temperature=0, presence_penalty=2.0)) == 0, "the prompt is not the answer"


def test_forbidden_tokens_never_come() -> None:
    assert only(LOGITS, draw(temperature=0, forbidden=(0, 1))) == 2


def test_logprobs_are_the_models_own() -> None:
    (choice,) = choose(LOGITS[None], [draw(temperature=0, logprobs=2, presence_penalty=1.0)])
    assert choice is not None
    assert choice.logprob == pytest.approx(float(LOGITS[0]), abs=1e-5)
    assert [token for token, _ in choice.top] == [0, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_reported_and_its_mates_are_not(bad: float) -> None:
    broken = LOGITS.clone()
    broken[3] = bad
    choices = choose(torch.stack([LOGITS, broken, LOGITS]), [draw(temperature=0)] * 3)
    assert [choice is None for choice in choices] == [False, True, False]


def test_scores_are_log_probabilities() -> None:
    rows = torch.stack([LOGITS] * 300)
    scores = score(rows, [token % 5 for token in range(300)])
    assert [own for own, _ in scores] == pytest.approx([float(LOGITS[token % 5]) for token in range(300)], abs=1e-5)
    assert [top for _, top in scores] == [()] * 300


def test_scores_come_with_the_likeliest_alternatives() -> None:
    ((own, top),) = score(LOGITS[None], [4], 2)
    assert own == pytest.approx(float(LOGITS[4]), abs=1e-5)
    assert [token for token, _ in top] == [0, 1]
    assert [value for _, value in top] == pytest.approx(LOGITS[:2].tolist(), abs=1e-5)


def test_a_bias_is_added_to_a_tokens_logit() -> None:
    assert only(LOGITS, draw(temperature=0, logit_bias=((3, 5.0), (0, -1.0)))) == 3
    assert only(LOGITS, draw(temperature=0, logit_bias=((0, -100.0), (1, -100.0)))) == 2
    assert 0 not in frequencies(300, logit_bias=((0, -100.0),))


def test_a_repetition_penalty_ignores_virtual_tokens() -> None:
    assert only(LOGITS, draw((-1, -2, 4), 3, temperature=0, repetition_penalty=5.0)) == 0


def test_a_grammar_that_can_only_end_may_end_early() -> None:
    only_zero = np.array([True, False, False, False, False])
    wish = Draw(Sampling(max_tokens=9, temperature=0), (1,), 1, 0, (0,), only_zero)
    assert only(LOGITS, wish) == 0
    either = Draw(Sampling(max_tokens=9, temperature=0), (1,), 1, 0, (0,), np.array([True, False, False, True, False]))
    assert only(LOGITS, either) == 3


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 2},
        {"min_tokens": 10},
        {"logprobs": 21},
        {"stop": ("",)},
        {"repetition_penalty": 0},
        {"logit_bias": ((1, 101.0),)},
    ],
)
def test_bad_parameters_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        Sampling(max_tokens=9, **bad)
    assert caught.value.param == next(iter(bad))


samplings = st.builds(
    Sampling,
    max_tokens=st.just(99),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    top_k=st.sampled_from([0, 1, 7, 70, 200]),
    min_p=st.sampled_from([0.0, 0.02, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.8]),
    frequency_penalty=st.sampled_from([0.0, -0.4]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    logprobs=st.sampled_from([None, 0, 3]),
    logit_bias=st.sampled_from([(), ((3, 4.0), (250, -100.0))]),
)
wishes = st.builds(
    Draw,
    samplings,
    tokens=st.lists(st.integers(0, 299), min_size=3, max_size=40),
    num_prompt=st.just(3),
    seed=st.integers(0, 2**64 - 1),
    forbidden=st.sampled_from([(), (1, 2)]),
    allowed=st.sampled_from([None, np.arange(300) % 3 == 0]),
)


@given(mates=st.lists(wishes, max_size=5), wish=wishes, place=st.integers(0, 5), numbers=st.integers(0, 999))
def test_every_draw_is_the_same_in_any_company(mates: list[Draw], wish: Draw, place: int, numbers: int) -> None:
    """With all parameters, in any place of any batch; and it is a token that may come."""
    logits = torch.randn(len(mates) + 1, 300, generator=torch.Generator().manual_seed(numbers)) * 3
    place = min(place, len(mates))
    alone = choose(logits[place : place + 1].clone(), [wish])[0]
    crowd = choose(logits, [*mates[:place], wish, *mates[place:]])[place]
    assert alone is not None
    assert alone == crowd
    assert 0 <= alone.token < 300
    assert wish.allowed is None or wish.allowed[alone.token]
    assert alone.token not in wish.forbidden
    if wish.sampling.logprobs is not None:
        assert alone.logprob == pytest.approx(float(torch.log_softmax(logits[place], dim=-1)[alone.token]), abs=1e-4)


@given(numbers=st.integers(0, 999), count=st.integers(1, 300), size=st.integers(1, 300), ties=st.booleans())
def test_the_likeliest_are_those_of_a_full_sort(numbers: int, count: int, size: int, ties: bool) -> None:
    values = np.full(-(-size // DEPTH) * DEPTH, -np.inf, dtype=np.float32)
    drawn = np.random.default_rng(numbers).standard_normal(size)
    values[:size] = drawn.round(1) if ties else drawn
    count = min(count, size)
    assert _likeliest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()


@given(numbers=st.integers(0, 999), top_p=st.sampled_from([0.1, 0.6, 0.95]), top_k=st.sampled_from([0, 5, 500, 5000]))
def test_a_nucleus_is_that_of_a_full_sort(numbers: int, top_p: float, top_k: int) -> None:
    logits = (np.random.default_rng(numbers).standard_normal(6400) * (numbers % 4)).astype(np.float32)
    values, ids = _filter(logits, Sampling(max_tokens=1, top_p=top_p, top_k=top_k))
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    kept = np.exp(logits[order], dtype=np.float64)
    kept /= kept.sum()
    np.testing.assert_allclose(logits[ids], logits[order[: len(ids)]], atol=1e-5)
    assert values.sum() >= top_p - 1e-3
    assert kept[: len(ids) - 1].sum() < top_p + 1e-3

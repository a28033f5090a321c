"""Logits to tokens. A row's draw depends on its seed and its own tokens only, never on its batch mates.

The k-th token of a request uses the k-th number of its own seeded stream, so that preemption changes nothing either.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.request import Alternatives, Sampling

CANDIDATES = 1024
"""How many of the likeliest tokens are sorted before falling back to the whole vocabulary."""
SCORED_ROWS = 128
"""Prompt positions scored at once: a float32 row of logits is large."""


@dataclass(frozen=True, eq=False)
class Draw:
    """One row's wish: its sampling parameters, its tokens so far, and which tokens may come."""

    sampling: Sampling
    tokens: Sequence[int]
    num_prompt: int
    seed: int
    forbidden: Sequence[int] = ()
    allowed: Tensor | None = None
    """(vocabulary,) bool; None: all."""

    @property
    def num_drawn(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def is_plain(self) -> bool:
        """Greedy, with nothing to adjust or to report: the batched argmax is the answer."""
        wants = self.sampling
        return wants.temperature == 0 and not wants.adjusts and wants.logprobs is None and not self.forbidden


@dataclass(frozen=True)
class Choice:
    token: int
    logprob: float | None = None
    top: Alternatives = ()


def choose(logits: Tensor, draws: Sequence[Draw]) -> list[Choice | None]:
    """One token per row of logits (rows, vocabulary). None where a row is not finite: it must fail, alone."""
    best, ids = logits.max(dim=-1)
    finite = torch.isfinite(best).tolist()
    greedy = ids.tolist()
    return [
        None if not finite[row] else Choice(greedy[row]) if draw.is_plain else _draw(logits[row].float(), draw)
        for row, draw in enumerate(draws)
    ]


def score(logits: Tensor, targets: Sequence[int], alternatives: int = 0) -> list[tuple[float, Alternatives]]:
    """Log-probability of each target under its row of logits (rows, vocabulary), and the likeliest others beside it."""
    wanted = torch.tensor(targets, device=logits.device)
    scores: list[tuple[float, Alternatives]] = []
    for start in range(0, len(targets), SCORED_ROWS):
        rows = slice(start, start + SCORED_ROWS)
        logprobs = torch.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
        values, ids = logprobs.topk(alternatives)
        own = logprobs.gather(1, wanted[rows, None])[:, 0].tolist()
        tops = [tuple(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]
        scores += zip(own, tops, strict=True)
    return scores


def _draw(raw: Tensor, draw: Draw) -> Choice:
    """raw: (vocabulary,) float32. Reported log-probabilities are the model's own, before any adjustment."""
    sampling = draw.sampling
    adjusted = _adjust(raw, draw)
    if sampling.temperature == 0:
        token = int(adjusted.argmax())
    else:
        uniform = random.Random((draw.seed & (2**64 - 1)) << 32 | draw.num_drawn).random()
        token = _pick(torch.softmax(adjusted / sampling.temperature, dim=-1), sampling, uniform)
    if sampling.logprobs is None:
        return Choice(token)
    logprobs = torch.log_softmax(raw, dim=-1)
    values, ids = logprobs.topk(sampling.logprobs)
    return Choice(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def _adjust(raw: Tensor, draw: Draw) -> Tensor:
    """Penalties and biases. Repetition looks at prompt and answer, presence and frequency at the answer."""
    sampling = draw.sampling
    if not sampling.adjusts and not draw.forbidden:
        return raw
    logits = raw.clone()
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({token for token in draw.tokens if token >= 0}), device=raw.device)
        values = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    answer = torch.tensor(draw.tokens[draw.num_prompt :], device=raw.device, dtype=torch.long)
    if len(answer) and (sampling.presence_penalty or sampling.frequency_penalty):
        ids, counts = torch.unique(answer, return_counts=True)
        logits[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    if sampling.logit_bias:
        biased, biases = (torch.tensor(column, device=raw.device) for column in zip(*sampling.logit_bias, strict=True))
        logits.index_add_(0, biased, biases.float())
    return _restrict(logits, draw)


def _restrict(logits: Tensor, draw: Draw) -> Tensor:
    """Only tokens that may come. A grammar that can do nothing but end wins over `forbidden`."""
    if draw.allowed is not None:
        logits.masked_fill_(~draw.allowed.to(logits.device), float("-inf"))
    if draw.forbidden:
        free = logits.clone()
        free[list(draw.forbidden)] = float("-inf")
        return free if draw.allowed is None or float(free.max()) > float("-inf") else logits
    return logits


def _pick(probabilities: Tensor, sampling: Sampling, uniform: float) -> int:
    """Invert the distribution at `uniform`, over the whole vocabulary or over the tokens that the filters leave."""
    ids = None
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0:
        probabilities, ids = _filter(probabilities, sampling)
    cumulative = probabilities.cumsum(dim=-1)
    place = int(torch.searchsorted(cumulative, cumulative[-1] * uniform, right=True))
    place = min(place, len(cumulative) - 1)
    return place if ids is None else int(ids[place])


def _filter(probabilities: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The tokens that top_k, then top_p, then min_p leave: probabilities (falling) and ids."""
    limit = min(sampling.top_k or len(probabilities), len(probabilities))
    values, ids = probabilities.topk(min(limit, CANDIDATES))
    enough = float(values.sum()) >= sampling.top_p and sampling.top_p < 1
    enough = enough or (sampling.min_p > 0 and float(values[-1]) < sampling.min_p * float(values[0]))
    if len(values) < limit and not enough:
        values, ids = probabilities.topk(limit)
    if sampling.top_k:
        values = values / values.sum()
    if sampling.top_p < 1:
        before = values.cumsum(dim=-1) - values
        values = values[before < sampling.top_p]
    if sampling.min_p > 0:
        values = values[values >= sampling.min_p * values[0]]
    return values, ids[: len(values)]

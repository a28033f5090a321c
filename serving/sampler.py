"""Logits to tokens. A row's draw depends on its seed and its own tokens only, never on its batch mates.

Greedy rows with nothing to adjust share one batched argmax. Every other row is drawn by itself, in float32 and numpy:
the same operations on the same numbers whoever else is in the batch. The k-th token of a request uses the k-th number
of its own seeded stream, so that preemption changes nothing either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.native import greatest
from serving.request import Alternatives, Sampling

Floats: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.intp]

DEPTH = 64
"""A row is folded into so many lines; a column's maximum or sum stands for its tokens when the row is searched."""
CANDIDATES = (64, 4096)
"""How many of the likeliest tokens are tried as a nucleus before all are sorted."""
LEAST, GREATEST = 1e-30, 1e30
"""Divisors beyond these are taken as these: float32 would make zero or infinity of them, and NaN of the logits."""
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
    allowed: NDArray[np.bool_] | None = None
    """(vocabulary,); None: all."""

    @property
    def num_drawn(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def adjusts(self) -> bool:
        """Whether the logits are not taken as the model gave them."""
        return self.sampling.adjusts or bool(self.forbidden) or self.allowed is not None

    @property
    def is_plain(self) -> bool:
        """Greedy, with nothing to adjust or to report: the batched argmax is the answer."""
        return self.sampling.temperature == 0 and self.sampling.logprobs is None and not self.adjusts


@dataclass(frozen=True)
class Choice:
    token: int
    logprob: float | None = None
    top: Alternatives = ()


def choose(logits: Sequence[Tensor], draws: Sequence[Draw]) -> list[Choice | None]:
    """One token per row of logits, (vocabulary,) each. None where a row is not finite: it must fail, alone."""
    greedy = _argmax(logits) if draws else []
    return [
        None if place < 0 else Choice(place) if draw.is_plain else _draw(_row(row), draw)
        for row, place, draw in zip(logits, greedy, draws, strict=True)
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


def _argmax(logits: Sequence[Tensor]) -> list[int]:
    """The likeliest token of each row; -1 where its logits are no numbers."""
    places = greatest(logits)
    if places is None:
        best, found = torch.stack(list(logits)).max(dim=-1)
        return torch.where(torch.isfinite(best), found, -1).tolist()
    return [place if place >= 0 and isfinite(row[place]) else -1 for row, place in zip(logits, places, strict=True)]


def _row(logits: Tensor) -> Floats:
    """One row in float32, filled up to whole columns with tokens that cannot come."""
    row: Floats = logits.float().cpu().numpy()
    return np.pad(row, (0, -len(row) % DEPTH), constant_values=-np.inf) if len(row) % DEPTH else row


def _draw(raw: Floats, draw: Draw) -> Choice:
    """raw: (vocabulary,). Reported log-probabilities are the model's own, before any adjustment."""
    sampling = draw.sampling
    adjusted = _adjust(raw, draw)
    token = _pick(adjusted, sampling, _uniform(draw)) if sampling.temperature else int(adjusted.argmax())
    if sampling.logprobs is None:
        return Choice(token)
    logprobs = raw - raw.max()
    logprobs -= np.log(np.exp(logprobs).sum())
    top = _likeliest(logprobs, sampling.logprobs)
    return Choice(token, float(logprobs[token]), tuple((int(other), float(logprobs[other])) for other in top))


def _adjust(raw: Floats, draw: Draw) -> Floats:
    """Penalties and biases. Repetition looks at prompt and answer, presence and frequency at the answer."""
    sampling = draw.sampling
    if not draw.adjusts:
        return raw
    logits = raw.copy()
    if sampling.repetition_penalty != 1.0:
        seen = np.unique([token for token in draw.tokens if token >= 0])
        values, penalty = logits[seen], _divisor(sampling.repetition_penalty)
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        ids, counts = np.unique(np.array(draw.tokens[draw.num_prompt :], dtype=np.intp), return_counts=True)
        logits[ids] -= np.float32(sampling.presence_penalty) + np.float32(sampling.frequency_penalty) * counts
    for token, bias in sampling.logit_bias:
        logits[token] += bias
    return _restrict(logits, draw)


def _restrict(logits: Floats, draw: Draw) -> Floats:
    """Only tokens that may come. A grammar that can do nothing but end wins over `forbidden`."""
    if draw.allowed is not None:
        logits[: len(draw.allowed)][~draw.allowed] = -np.inf
    if draw.forbidden:
        free = logits.copy()
        free[list(draw.forbidden)] = -np.inf
        return free if draw.allowed is None or free.max() > -np.inf else logits
    return logits


def _softmax(logits: Floats, temperature: float) -> Floats:
    weights: Floats = logits - logits.max()
    with np.errstate(over="ignore"):  # so far below the best that nothing of it is left
        weights /= _divisor(temperature)
    np.exp(weights, out=weights)
    weights /= weights.sum()
    return weights


def _divisor(value: float) -> np.float32:
    return np.float32(min(max(value, LEAST), GREATEST))


def _uniform(draw: Draw) -> float:
    """The number in [0, 1) that belongs to this seed and this place of the answer."""
    key = f"{draw.seed}:{draw.num_drawn}".encode()
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 11) / 2**53


def _pick(logits: Floats, sampling: Sampling, uniform: float) -> int:
    """Invert the distribution at `uniform`, over the whole vocabulary or over the tokens that the filters leave."""
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0:
        probabilities, ids = _filter(logits, sampling)
        return int(ids[_invert(probabilities, uniform)[0]])
    folded = _softmax(logits, sampling.temperature).reshape(DEPTH, -1)
    column, rest = _invert(folded.sum(axis=0), uniform)
    line, _ = _invert(folded[:, column], rest)
    return line * folded.shape[1] + column


def _invert(weights: Floats, share: float) -> tuple[int, float]:
    """The first place where the cumulated weights exceed this share of their sum, and how far into it, as a share."""
    cumulated = weights.cumsum(dtype=np.float64)
    wanted = share * cumulated[-1]
    place = min(int(cumulated.searchsorted(wanted, side="right")), int(cumulated.argmax()))
    before = cumulated[place - 1] if place else 0.0
    return place, float((wanted - before) / (cumulated[place] - before))


def _filter(logits: Floats, sampling: Sampling) -> tuple[Floats, Ids]:
    """The tokens that top_k, then top_p, then min_p leave: probabilities (falling) and ids."""
    if sampling.top_k:
        ids = _likeliest(logits, min(sampling.top_k, len(logits)))
        values = _softmax(logits[ids], sampling.temperature)
    else:
        values, ids = _nucleus(_softmax(logits, sampling.temperature), sampling)
    if sampling.top_p < 1:
        before = values.cumsum(dtype=np.float64) - values
        values = values[before < sampling.top_p]
    if sampling.min_p > 0:
        values = values[values >= sampling.min_p * values[0]]
    return values, ids[: len(values)]


def _nucleus(probabilities: Floats, sampling: Sampling) -> tuple[Floats, Ids]:
    """So many of the likeliest tokens that top_p or min_p leaves no more: probabilities (falling) and ids."""
    for count in (*CANDIDATES, len(probabilities)):
        ids = _likeliest(probabilities, min(count, len(probabilities)))
        values = probabilities[ids]
        if sampling.top_p < 1 and float(values.sum(dtype=np.float64)) >= sampling.top_p:
            break
        if sampling.min_p > 0 and values[-1] < sampling.min_p * values[0]:
            break
    return values, ids


def _likeliest(values: Floats, count: int) -> Ids:
    """Places of the `count` largest values, falling; equal ones in order of place.

    At least `count` values reach the `count`-th largest maximum of a column: only those need to be sorted.
    """
    if count == 0:
        return np.empty(0, dtype=np.intp)
    maxima = values.reshape(DEPTH, -1).max(axis=0)
    pool = maxima if count < len(maxima) else values
    places = np.flatnonzero(values >= np.partition(pool, -count)[-count])
    order: Ids = places[np.argsort(-values[places], kind="stable")[:count]]
    return order

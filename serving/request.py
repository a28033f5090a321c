"""What goes into the engine and what comes out: requests, sampling parameters, events. Knows no torch and no HTTP."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from registry.errors import Invalid, LorimerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from serving.adapter import LoadedAdapter
    from serving.grammar import Grammar

Reason = Literal["stop", "length", "abort", "error", "deadline"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    """How many alternatives to report beside the chosen token's log-probability; None reports nothing."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits."""
    grammar: Grammar | None = None
    """What the answer must be; it ends when the grammar is complete."""

    def __post_init__(self) -> None:
        _check(self.max_tokens >= 0, "max_tokens", "must not be negative")
        _check(0 <= self.min_tokens <= self.max_tokens, "min_tokens", "must lie between 0 and max_tokens")
        _check(math.isfinite(self.temperature) and self.temperature >= 0, "temperature", "must be 0 or more")
        _check(0 < self.top_p <= 1, "top_p", "must lie in (0, 1]")
        _check(self.top_k >= 0, "top_k", "must be 0 (off) or more")
        _check(0 <= self.min_p <= 1, "min_p", "must lie in [0, 1]")
        _check(-2 <= self.presence_penalty <= 2, "presence_penalty", "must lie in [-2, 2]")
        _check(-2 <= self.frequency_penalty <= 2, "frequency_penalty", "must lie in [-2, 2]")
        _check(0 < self.repetition_penalty <= 100, "repetition_penalty", "must lie in (0, 100]")
        _check(self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs", "must lie between 0 and 20")
        _check(all(self.stop), "stop", "must not contain an empty string")
        _check(all(-100 <= bias <= 100 for _, bias in self.logit_bias), "logit_bias", "must lie in [-100, 100]")

    @cached_property
    def adjusts(self) -> bool:
        """Whether penalties or biases change the logits."""
        penalises = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0
        return bool(penalises or self.logit_bias)


@dataclass(frozen=True, eq=False)
class Request:
    """One prompt for one adapter (None: the bare base). The caller keeps the adapter's lease until `Finished`.

    `score_from`: also return the log-probabilities of prompt tokens at positions >= max(score_from, 1), and with
    `prompt_logprobs` so many alternatives to each.
    `deadline`: a `time.monotonic` instant after which the work is dropped.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: Sampling
    adapter: LoadedAdapter | None = None
    tenant: str = "default"
    score_from: int | None = None
    prompt_logprobs: int | None = None
    want_features: bool = False
    deadline: float | None = None

    def __post_init__(self) -> None:
        asked = self.prompt_logprobs
        _check(asked is None or self.score_from is not None, "prompt_logprobs", "needs score_from")
        _check(asked is None or 0 <= asked <= 20, "prompt_logprobs", "must lie between 0 and 20")

    @property
    def num_virtual(self) -> int:
        """How many virtual tokens the adapter puts before the prompt."""
        return self.adapter.num_virtual if self.adapter is not None else 0


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Of the prompt: computed already, for an earlier request of the same tenant and adapter."""


@dataclass(frozen=True)
class Timings:
    """Seconds spent waiting for a seat, computing the prompt, and generating."""

    queued_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, eq=False)
class Features:
    """What the monitor sees of a prompt, from the forward pass that happened anyway: f32 vectors of the hidden size."""

    embedding_mean: NDArray[np.float32]
    hidden_mean: NDArray[np.float32]
    num_prompt_tokens: int


Alternatives: TypeAlias = tuple[tuple[int, float], ...]
"""The likeliest tokens at one place and their log-probabilities, the likeliest first."""

Scores: TypeAlias = tuple[tuple[float, Alternatives], ...]
"""Log-probabilities of consecutive tokens, and what else was likely in their places."""


@dataclass(frozen=True)
class Token:
    """One generated token, the end token too. `text` is new text; half a character or a stop prefix is held back."""

    id: int
    text: str
    logprob: float | None = None
    top: Alternatives = ()
    prompt_scores: Scores | None = None
    """With the first token: what `Finished` will tell of a prompt that is scored, for those who cannot wait."""


@dataclass(frozen=True, eq=False)
class Finished:
    """The last event of every request. Text still held back was released by the token before it."""

    reason: Reason
    usage: Usage
    timings: Timings
    error: LorimerError | None = None
    features: Features | None = None
    prompt_logprobs: tuple[float, ...] | None = None
    prompt_top: tuple[Alternatives, ...] | None = None
    """Beside each of `prompt_logprobs`, when alternatives were asked for."""


Event: TypeAlias = Token | Finished
OnEvent: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, eq=False)
class Completion:
    """A whole answer, for callers that do not stream."""

    tokens: tuple[int, ...]
    text: str
    reason: Reason
    usage: Usage
    logprobs: tuple[float, ...] | None = None
    prompt_logprobs: tuple[float, ...] | None = None
    prompt_top: tuple[Alternatives, ...] | None = None
    features: Features | None = None
    error: LorimerError | None = None


def _check(holds: bool, param: str, complaint: str) -> None:
    if not holds:
        raise Invalid(f"{param} {complaint}", param=param)

"""From the wire's words to the engine's: sampling parameters. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.errors import Invalid
from serving.gateway.wire.generation import Generate
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.grammar import Grammar

MAX_DIGITS = 9


def sampling_of(body: Generate, max_tokens: int, logprobs: int | None, grammar: Grammar | None) -> Sampling:
    """The engine's sampling parameters."""
    min_tokens = body.min_tokens or 0
    if min_tokens > max_tokens:
        raise Invalid("min_tokens exceeds max_tokens", param="min_tokens", code="invalid_value")
    stop = body.stop or ()
    return Sampling(
        temperature=_or(body.temperature, 1.0),
        top_p=_or(body.top_p, 1.0),
        top_k=max(body.top_k or 0, 0),
        min_p=_or(body.min_p, 0.0),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        seed=body.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        logprobs=logprobs,
        logit_bias=_logit_bias(body),
        grammar=grammar,
    )


def answer_tokens(wanted: int | None, num_prompt_tokens: int, context_length: int, param: str) -> int:
    """How many tokens the answer may have: `wanted`, or all the room there is. Invalid where it cannot fit."""
    if num_prompt_tokens == 0:
        raise Invalid("the prompt is empty", param=param, code="invalid_value")
    room = context_length - num_prompt_tokens
    least = 1 if wanted is None else wanted
    if room < least:
        raise Invalid(
            f"this model's maximum context length is {context_length} tokens, but {num_prompt_tokens} tokens of prompt "
            f"and {least} of answer were asked for",
            param=param,
            code="context_length_exceeded",
        )
    return room if wanted is None else wanted


def seeds(seed: int | None, count: int) -> Sequence[int | None]:
    """One seed for each of `count` rows of a request: distinct answers, reproducible together."""
    return [None if seed is None else seed + index for index in range(count)]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _logit_bias(body: Generate) -> tuple[tuple[int, float], ...]:
    biases = body.logit_bias or {}
    if not all(token.isascii() and token.isdigit() and len(token) <= MAX_DIGITS for token in biases):
        raise Invalid("logit_bias takes token ids as keys", param="logit_bias", code="invalid_value")
    return tuple(sorted((int(token), bias) for token, bias in biases.items()))

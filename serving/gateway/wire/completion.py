"""/v1/completions on the wire: OpenAI's dialect. Knows no HTTP and no engine."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.gateway.wire.generation import FinishReason, Generate
from serving.gateway.wire.values import Natural


class CompletionRequest(Generate, frozen=True, kw_only=True):
    """`max_tokens` 0 only with `echo`: to score a prompt and write nothing."""

    prompt: str | list[Any]
    max_tokens: Natural | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class TextLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason | None = None

"""/v1/tokenize and /v1/detokenize on the wire, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.gateway.wire.chat import Message
from serving.gateway.wire.tool import Tools
from serving.gateway.wire.values import Name, Natural


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Either a `prompt` or `messages`. `add_special_tokens` is of prompts, `add_generation_prompt` of messages."""

    model: Name | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)] | None = None
    tools: Tools | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = None
    continue_final_message: Any = None
    chat_template: Any = None
    chat_template_kwargs: Any = None


class TokenizeResponse(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: Name | None = None
    tokens: list[Natural]


class DetokenizeResponse(msgspec.Struct, frozen=True, kw_only=True):
    prompt: str

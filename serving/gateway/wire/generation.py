"""What every generation request and answer has, with vLLM's extension fields. Knows no endpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from serving.gateway.wire.unsupported import Unsupported
from serving.gateway.wire.values import Count, Name, Natural, Penalty, Seed, StopText, StopTexts

StructureText = Annotated[str, Meta(min_length=1, max_length=4096)]
FinishReason = Literal["stop", "length", "tool_calls"]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    schema: dict[str, Any] = {}
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    json_schema: JsonSchema | None = None


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """vLLM's `structured_outputs`: one of these."""

    json: dict[str, Any] | str | None = None
    regex: StructureText | None = None
    choice: Annotated[list[StructureText], Meta(min_length=1, max_length=1024)] | None = None
    json_object: bool | None = None
    grammar: Any = None
    structural_tag: Any = None


class MixPart(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter of a mix, named as `model` names one, and how much of its change is applied."""

    model: Name
    weight: Annotated[float, Meta(ge=-10, le=10)]


class Choosing(Unsupported, frozen=True, kw_only=True):
    """Which weights answer, and on whose behalf."""

    model: Name
    adapters: Annotated[list[MixPart], Meta(min_length=2, max_length=8)] | None = None
    """A weighted mix of adapters, applied to the base that `model` names."""
    adapter_id: Name | None = None
    """LoRAX's way to name the adapter, where `model` names the base."""
    adapter_source: Literal["registry"] | None = None
    """No adapter comes from anywhere else."""
    user: str | None = None
    safety_identifier: str | None = None


class Generate(Choosing, frozen=True, kw_only=True):
    """What the generating endpoints take. A field this dialect knows but we cannot honour is refused by name."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)] | None = None
    response_format: ResponseFormat | None = None

    structured_outputs: Structure | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: StructureText | None = None
    guided_choice: Annotated[list[StructureText], Meta(min_length=1, max_length=1024)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1 << 31)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_tokens: Natural | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[Natural], Meta(max_length=64)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None


class CachedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the prompt that were computed already, for an earlier request of the same tenant and adapter."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens = CachedTokens()

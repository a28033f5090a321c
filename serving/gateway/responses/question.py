"""A response's question: a chat's, asked in other words. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from msgspec import UNSET

from registry.errors import Invalid
from serving.gateway.dialect.chat_question import ChatQuestion
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.dialect.question import check_supported
from serving.gateway.responses.conversation import conversation_of
from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.generation import Choosing, JsonSchema, ResponseFormat
from serving.gateway.wire.response import (
    ResponseRequest,
    ResponseTool,
    ResponseToolChoice,
    ResponseUnsupported,
    TextFormat,
)
from serving.gateway.wire.tool import Function, NamedFunction, NamedTool, Tool, ToolChoice
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars

REFUSED = sorted(set(ResponseUnsupported.__struct_fields__) - set(Choosing.__struct_fields__))
WORDS = {"messages": "input", "response_format": "text.format", "max_completion_tokens": "max_output_tokens"}
"""A chat's field -> where a response says the same."""


@dataclass(eq=False)
class ResponseQuestion(ChatQuestion):
    body: ChatRequest = field(init=False)
    asked: ResponseRequest
    id_prefix: ClassVar[str] = "resp"

    def __post_init__(self) -> None:
        check_supported(self.asked, REFUSED)
        self.body = chat_of(self.asked)

    def check(self, base: Base) -> None:
        with _in_other_words():
            super().check(base)

    def prompts(self, base: Base) -> list[Prompt]:
        with _in_other_words():
            return super().prompts(base)

    def grammar(self, grammars: Grammars) -> Grammar | None:
        with _in_other_words():
            return super().grammar(grammars)

    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling:
        with _in_other_words():
            return super().sampling(num_prompt_tokens, context_length, grammar)


def chat_of(asked: ResponseRequest) -> ChatRequest:
    wants_logprobs = bool(asked.top_logprobs) or "message.output_text.logprobs" in (asked.include or ())
    return ChatRequest(
        model=asked.model,
        adapters=asked.adapters,
        adapter_id=asked.adapter_id,
        adapter_source=asked.adapter_source,
        user=asked.user,
        safety_identifier=asked.safety_identifier,
        messages=conversation_of(asked.instructions, asked.input),
        max_completion_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        logprobs=wants_logprobs,
        top_logprobs=asked.top_logprobs if wants_logprobs else None,
        response_format=_format(asked.text.format) if asked.text is not None else None,
        tools=[_tool(tool) for tool in asked.tools or ()],
        tool_choice=_choice(asked.tool_choice),
        parallel_tool_calls=asked.parallel_tool_calls,
    )


def _format(wanted: TextFormat) -> ResponseFormat:
    if wanted.type != "json_schema":
        return ResponseFormat(type=wanted.type)
    if wanted.schema is UNSET or wanted.name is UNSET:
        raise Invalid("a json_schema has a name and a schema", param="text.format.schema", code="invalid_value")
    return ResponseFormat(type="json_schema", json_schema=JsonSchema(name=wanted.name, schema=wanted.schema))


def _tool(tool: ResponseTool) -> Tool:
    function = Function(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return Tool(type="function", function=function)


def _choice(choice: Literal["none", "auto", "required"] | ResponseToolChoice | None) -> ToolChoice | None:
    if isinstance(choice, ResponseToolChoice):
        return NamedTool(type="function", function=NamedFunction(name=choice.name))
    return choice


@contextmanager
def _in_other_words() -> Iterator[None]:
    """Name the response's own field in what is said against the chat."""
    try:
        yield
    except Invalid as error:
        field_name = (error.param or "").partition("[")[0].partition(".")[0]
        if field_name not in WORDS:
            raise
        raise Invalid(error.message, hint=error.hint, param=WORDS[field_name], code=error.code) from error

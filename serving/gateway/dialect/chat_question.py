"""A chat completion's question: a conversation under the base's template. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Invalid
from serving.gateway.demand import Demand, about
from serving.gateway.dialect.formats import format_grammar
from serving.gateway.dialect.messages import template_messages, texts_of
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.dialect.question import check_generation, refuse
from serving.gateway.dialect.sampling import answer_tokens, sampling_of
from serving.gateway.generation import UNBOUNDED
from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.generation import MixPart
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars


@dataclass(frozen=True, eq=False)
class ChatQuestion:
    body: ChatRequest
    id_prefix: ClassVar[str] = "chatcmpl"
    window: ClassVar[int] = UNBOUNDED
    is_observed: ClassVar[bool] = True
    wants_features: ClassVar[bool] = False

    @property
    def model(self) -> str:
        return self.body.model

    @property
    def adapters(self) -> Sequence[MixPart] | None:
        return self.body.adapters

    @property
    def user(self) -> str | None:
        return self.body.user or self.body.safety_identifier

    @property
    def per_prompt(self) -> int:
        return self.body.n or 1

    @property
    def is_bound(self) -> bool:
        return self.body.response_format is not None

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        return template_messages(self.body.messages)

    def check(self, base: Base) -> None:
        body = self.body
        refuse(
            {
                "tools": bool(body.tools),
                "functions": bool(body.functions),
                "tool_choice": body.tool_choice not in (None, "none", "auto"),
                "audio": body.audio is not None,
                "modalities": body.modalities not in (None, [], ["text"]),
            }
        )
        check_generation(body)

    def scores(self, index: int) -> bool:
        return False

    def demand(self) -> Demand:
        length = sum(about(text) for message in self.body.messages for text in texts_of(message))
        return Demand.of([length], self.per_prompt, self.body.max_completion_tokens or self.body.max_tokens)

    def prompts(self, base: Base) -> list[Prompt]:
        return [Prompt(tuple(base.render(self.messages)))]

    def grammar(self, grammars: Grammars) -> Grammar | None:
        return format_grammar(self.body.response_format, grammars)

    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling:
        wanted = self.body.max_completion_tokens or self.body.max_tokens
        max_tokens = answer_tokens(wanted, num_prompt_tokens, context_length, "messages")
        return sampling_of(self.body, max_tokens, self._logprobs(), grammar)

    def _logprobs(self) -> int | None:
        if self.body.top_logprobs is not None and not self.body.logprobs:
            raise Invalid("top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
        return (self.body.top_logprobs or 0) if self.body.logprobs else None

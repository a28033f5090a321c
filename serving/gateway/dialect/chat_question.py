"""A chat completion's question: a conversation under the base's template. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Invalid
from serving.gateway.demand import Demand, about
from serving.gateway.dialect.formats import Form, form_of
from serving.gateway.dialect.kept import Kept
from serving.gateway.dialect.messages import template_messages, texts_of, uses_tools
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.dialect.question import FromBody, check_generation
from serving.gateway.dialect.sampling import answer_tokens, sampling_of
from serving.gateway.generation import UNBOUNDED
from serving.gateway.tools.format import format_of
from serving.gateway.tools.grammar import tool_grammar
from serving.gateway.tools.offer import Offer, offer_of
from serving.gateway.wire.chat import ChatRequest, ChatUnsupported
from serving.gateway.wire.generation import Generate
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars

REFUSED = sorted(set(ChatUnsupported.__struct_fields__) - set(Generate.__struct_fields__))


@dataclass(eq=False)
class ChatQuestion(FromBody[ChatRequest]):
    body: ChatRequest
    offer: Offer | None = field(default=None, init=False)
    """What may be called, known once it was checked."""
    form: Form | None = field(default=None, init=False)
    """What the answer is to look like, known once it was checked."""
    id_prefix: ClassVar[str] = "chatcmpl"
    window: ClassVar[int] = UNBOUNDED
    is_observed: ClassVar[bool] = True
    wants_features: ClassVar[bool] = False

    @property
    def per_prompt(self) -> int:
        return self.body.n or 1

    @property
    def is_bound(self) -> bool:
        return self.form is not None or self.offer is not None

    def scores(self, index: int) -> bool:
        return False

    def check(self, base: Base) -> None:
        body = self.body
        check_generation(body, base, REFUSED)
        self.form = form_of(body)
        self.offer = offer_of(base, body.tools, body.tool_choice, body.parallel_tool_calls)
        for index, message in enumerate(body.messages):
            if uses_tools(message) and format_of(base) is None:
                where = f"messages[{index}]"
                complaint = "the chat template of this base knows no tools"
                raise Invalid(complaint, param=where, code="unsupported_parameter")

    def demand(self) -> Demand:
        return Demand.of(
            [sum(map(about, self.texts()))], self.per_prompt, self.body.max_completion_tokens or self.body.max_tokens
        )

    def texts(self) -> list[str]:
        said = [text for message in self.body.messages for text in texts_of(message)]
        return said if self.offer is None else [*said, self.offer.spelled]

    def prompts(self, base: Base) -> list[Prompt]:
        tools = None if self.offer is None else self.offer.described()
        return [Prompt(tuple(base.render(self._conversation, tools=tools)))]

    def kept(self, base: Base) -> list[Kept]:
        return [Kept(messages=self._conversation, tools=[] if self.offer is None else self.offer.described())]

    def grammar(self, grammars: Grammars) -> Grammar | None:
        form = self.form
        if self.offer is None:
            return None if form is None else form.grammar(grammars)
        if form is not None and self.offer.must:
            complaint = f"an answer that must be a tool call cannot have a {form.param}"
            raise Invalid(complaint, param=form.param, code="invalid_value")
        if form is not None and form.schema is None:
            raise Invalid(f"beside tools, {form.param} is a schema", param=form.param, code="invalid_value")
        return tool_grammar(self.offer, None if form is None else form.schema, grammars)

    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling:
        wanted = self.body.max_completion_tokens or self.body.max_tokens
        max_tokens = answer_tokens(wanted, num_prompt_tokens, context_length, "messages")
        return sampling_of(self.body, max_tokens, self._logprobs(), grammar)

    @cached_property
    def _conversation(self) -> list[dict[str, Any]]:
        return template_messages(self.body.messages)

    def _logprobs(self) -> int | None:
        if self.body.top_logprobs is not None and not self.body.logprobs:
            raise Invalid("top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
        return (self.body.top_logprobs or 0) if self.body.logprobs else None

"""A plain completion's question: prompts as they are. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from registry.errors import Invalid
from serving.gateway.demand import Demand, lengths_of
from serving.gateway.dialect.formats import Form, form_of
from serving.gateway.dialect.kept import Kept
from serving.gateway.dialect.prompts import Prompt, echoed, plain_texts, read_prompts, tokenised
from serving.gateway.dialect.question import FromBody, check_generation, refuse
from serving.gateway.dialect.sampling import answer_tokens, sampling_of
from serving.gateway.generation import UNBOUNDED
from serving.gateway.wire.completion import CompletionRequest
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars

DEFAULT_MAX_TOKENS = 16
"""What OpenAI's /v1/completions writes when the caller gives no `max_tokens`."""
MAX_PROMPTS = 64


@dataclass(eq=False)
class TextQuestion(FromBody[CompletionRequest]):
    body: CompletionRequest
    form: Form | None = field(default=None, init=False)
    """What the answer is to look like, known once it was checked."""
    id_prefix: ClassVar[str] = "cmpl"
    window: ClassVar[int] = UNBOUNDED
    is_observed: ClassVar[bool] = True
    wants_features: ClassVar[bool] = False

    @property
    def per_prompt(self) -> int:
        return self.body.n or 1

    def scores(self, index: int) -> bool:
        """The first answer's scores do for all, unless each is told as it comes."""
        return self.echoes and self.body.logprobs is not None and (index == 0 or bool(self.body.stream))

    @property
    def is_bound(self) -> bool:
        return self.form is not None

    @property
    def echoes(self) -> bool:
        """Whether the prompts are repeated before their answers."""
        return bool(self.body.echo)

    def check(self, base: Base) -> None:
        body = self.body
        refuse(
            {
                "suffix": bool(body.suffix),
                "best_of": body.best_of is not None and body.best_of != (body.n or 1),
            }
        )
        check_generation(body, base)
        self.form = form_of(body)

    def demand(self) -> Demand:
        return Demand.of(lengths_of(self.body.prompt)[:MAX_PROMPTS], self.per_prompt, self.body.max_tokens)

    def texts(self) -> list[str]:
        return plain_texts(self.body.prompt)

    def prompts(self, base: Base) -> list[Prompt]:
        given = read_prompts(self.body.prompt, base.profile.vocab_size, param="prompt", most=MAX_PROMPTS)
        return [echoed(base, each) if self.echoes else tokenised(base, each) for each in given]

    def kept(self, base: Base) -> list[Kept]:
        given = read_prompts(self.body.prompt, base.profile.vocab_size, param="prompt", most=MAX_PROMPTS)
        return [Kept(prompt=each if isinstance(each, str) else echoed(base, each).text) for each in given]

    def grammar(self, grammars: Grammars) -> Grammar | None:
        return None if self.form is None else self.form.grammar(grammars)

    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling:
        wanted = self.body.max_tokens
        if wanted is None:
            wanted = max(min(DEFAULT_MAX_TOKENS, context_length - num_prompt_tokens), 1)
        elif wanted == 0 and not self.echoes:
            raise Invalid("max_tokens 0 needs echo: true", param="max_tokens", code="invalid_value")
        max_tokens = answer_tokens(wanted, num_prompt_tokens, context_length, "prompt")
        return sampling_of(self.body, max_tokens, self.body.logprobs, grammar)

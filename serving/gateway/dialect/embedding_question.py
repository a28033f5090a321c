"""An embedding's question: texts whose features are wanted, and no answer to them. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from registry.errors import Invalid
from serving.gateway.demand import Demand, lengths_of
from serving.gateway.dialect.kept import Kept
from serving.gateway.dialect.prompts import Prompt, plain_texts, read_prompts, tokenised
from serving.gateway.dialect.question import FromBody, check_choosing, check_supported
from serving.gateway.dialect.sampling import answer_tokens
from serving.gateway.wire.embedding import EmbeddingRequest
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars

MAX_INPUTS = 2048
WINDOW = 32


@dataclass(eq=False)
class EmbeddingQuestion(FromBody[EmbeddingRequest]):
    body: EmbeddingRequest
    per_prompt: int = 1
    is_bound: bool = False
    id_prefix: ClassVar[str] = "embd"
    window: ClassVar[int] = WINDOW
    is_observed: ClassVar[bool] = False
    """What is indexed and what is asked are different texts; no template is around them either."""
    wants_features: ClassVar[bool] = True

    def scores(self, index: int) -> bool:
        return False

    def check(self, base: Base) -> None:
        check_supported(self.body)
        check_choosing(self.body, base)
        wanted, size = self.body.dimensions, base.input_embeddings.shape[1]
        if wanted not in (None, size):
            complaint = f"embeddings of this model have {size} dimensions and mean nothing when they are cut"
            raise Invalid(complaint, param="dimensions", code="unsupported_parameter")

    def demand(self) -> Demand:
        lengths = lengths_of(self.body.input)[:MAX_INPUTS]
        return Demand(min(len(lengths), WINDOW), sum(lengths))

    def texts(self) -> list[str]:
        return plain_texts(self.body.input)

    def prompts(self, base: Base) -> list[Prompt]:
        given = read_prompts(self.body.input, base.profile.vocab_size, param="input", most=MAX_INPUTS)
        return [tokenised(base, each) for each in given]

    def kept(self, base: Base) -> list[Kept]:
        """Nothing is answered that could be judged or learned from."""
        return []

    def grammar(self, grammars: Grammars) -> Grammar | None:
        return None

    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling:
        return Sampling(max_tokens=answer_tokens(0, num_prompt_tokens, context_length, "input"))

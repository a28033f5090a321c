"""What one request asks of the engine, whichever endpoint it came to. Knows no HTTP and chooses no weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from registry.errors import Invalid
from serving.gateway.demand import Demand
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.wire.generation import Generate, MixPart
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars


class Question(Protocol):
    """Made of a parsed body. `check` comes first; `prompts` and `grammar` block, each on a thread of its own."""

    id_prefix: ClassVar[str]
    window: ClassVar[int]
    """Rows of it that may be in the engine at once."""
    is_observed: ClassVar[bool]
    """Whether its prompts say what an adapter is normally asked."""
    wants_features: ClassVar[bool]
    """Whether the pooled features of the prompts are the answer."""

    def scores(self, index: int) -> bool:
        """Whether a prompt's answer of this number must bring the prompt's log-probabilities."""

    @property
    def is_bound(self) -> bool:
        """Whether the answer must follow a grammar."""

    @property
    def model(self) -> str: ...
    @property
    def adapters(self) -> Sequence[MixPart] | None: ...
    @property
    def user(self) -> str | None:
        """Who is behind it, as far as the caller says."""

    @property
    def per_prompt(self) -> int:
        """Answers to each prompt."""

    @property
    def messages(self) -> list[dict[str, Any]] | None:
        """The conversation, for capture; None where it is none."""

    def check(self, base: Base) -> None:
        """Invalid for what cannot be honoured and whose omission would change the answer."""

    def demand(self) -> Demand:
        """What it will take, before any text is tokenised."""

    def prompts(self, base: Base) -> list[Prompt]: ...
    def grammar(self, grammars: Grammars) -> Grammar | None: ...
    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling: ...


def refuse(present: dict[str, bool]) -> None:
    """Invalid for the first field that is present."""
    for param, given in present.items():
        if given:
            raise Invalid(f"{param} is not supported here", param=param, code="unsupported_parameter")


def check_generation(body: Generate) -> None:
    """What every generating endpoint checks."""
    if body.stream_options is not None and not body.stream:
        raise Invalid("stream_options needs stream: true", param="stream_options", code="invalid_value")

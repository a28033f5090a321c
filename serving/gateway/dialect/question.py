"""What one request asks of the engine, whichever endpoint it came to. Knows no HTTP and chooses no weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from registry.errors import Invalid
from serving.gateway.demand import Demand
from serving.gateway.dialect.formats import FIELDS
from serving.gateway.dialect.kept import Kept
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.wire.generation import Choosing, Generate, MixPart
from serving.gateway.wire.unsupported import Unsupported, unsupported
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.base import Base
    from serving.grammar import Grammar, Grammars


B = TypeVar("B", bound=Choosing)


class Question(Protocol):
    """Made of a parsed body. `check` comes first; `prompts` and `grammar` block, each on a thread of its own."""

    id_prefix: ClassVar[str]
    window: ClassVar[int]
    """Rows of it that may be in the engine at once."""
    is_observed: ClassVar[bool]
    """Whether its prompts say what an adapter is normally asked."""
    wants_features: ClassVar[bool]
    """Whether the pooled features of the prompts are the answer."""

    @property
    def model(self) -> str: ...
    @property
    def adapters(self) -> Sequence[MixPart] | None: ...
    @property
    def people(self) -> tuple[str, ...]:
        """Who is behind it, by every name that the caller gives."""

    @property
    def per_prompt(self) -> int:
        """Answers to each prompt."""

    @property
    def is_bound(self) -> bool:
        """Whether the answer may have to follow a grammar."""

    def scores(self, index: int) -> bool:
        """Whether a prompt's answer of this number must bring the prompt's log-probabilities."""

    def check(self, base: Base) -> None:
        """Invalid for what cannot be honoured and whose omission would change the answer."""

    def demand(self) -> Demand:
        """What it will take, before any text is tokenised."""

    def texts(self) -> list[str]:
        """What is going to be tokenised, as far as it is text."""

    def kept(self, base: Base) -> list[Kept]:
        """What capture keeps of it, for each of its prompts; blocks as `prompts` does."""

    def prompts(self, base: Base) -> list[Prompt]: ...
    def grammar(self, grammars: Grammars) -> Grammar | None: ...
    def sampling(self, num_prompt_tokens: int, context_length: int, grammar: Grammar | None) -> Sampling: ...


class FromBody(Generic[B]):
    """What every question takes from its body as it is."""

    body: B

    @property
    def model(self) -> str:
        return self.body.adapter_id or self.body.model

    @property
    def adapters(self) -> Sequence[MixPart] | None:
        return self.body.adapters

    @property
    def people(self) -> tuple[str, ...]:
        names = self.body.user, self.body.safety_identifier
        return tuple(dict.fromkeys(name for name in names if name))


def names_of(question: Question) -> list[str]:
    """Every model that takes part."""
    return [question.model, *(part.model for part in question.adapters or ())]


def check_choosing(body: Choosing, base: Base) -> None:
    """`adapter_id` says what `model` would: both may not name adapters that differ."""
    base_names = (base.profile.identity.id, *base.profile.names)
    if body.adapter_id is None or body.adapter_id == body.model:
        return
    if body.adapters is not None or body.model not in base_names:
        complaint = f"with adapter_id, model names the base ({base_names[0]!r}) or the same adapter"
        raise Invalid(complaint, param="adapter_id", code="invalid_value")


def check_generation(body: Generate, base: Base, names: Iterable[str] = ()) -> None:
    """What every generating endpoint checks; `names` are of fields that it alone refuses."""
    check_supported(body, names, FIELDS)
    check_choosing(body, base)
    if body.stream_options is not None and not body.stream:
        raise Invalid("stream_options needs stream: true", param="stream_options", code="invalid_value")


def check_supported(body: Unsupported, names: Iterable[str] = (), honoured: Sequence[str] = ()) -> None:
    refused = (name for name in Unsupported.__struct_fields__ if name not in honoured)
    if (name := unsupported(body, (*refused, *names))) is not None:
        refuse({name: True})


def refuse(present: Mapping[str, bool]) -> None:
    """Invalid for the first field that is present."""
    for param, given in present.items():
        if given:
            raise Invalid(f"{param} is not supported here", param=param, code="unsupported_parameter")

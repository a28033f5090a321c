"""From conversations to token rows: which tokens are trained on. The base applies the template, never this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from registry.errors import Invalid
from trainer.dataset import Example
from trainer.rows import Message


class Renderer(Protocol):
    """What is needed of a base to turn conversations into tokens."""

    @property
    def eos_token_ids(self) -> frozenset[int]: ...

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> list[int]: ...


@dataclass(frozen=True)
class TokenRow:
    """`supervised[i]` is the position of a token to be predicted; its logits are those of the position before."""

    tokens: tuple[int, ...]
    supervised: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Rendered:
    rows: tuple[TokenRow, ...]
    num_too_long: int


def render_prompt(base: Renderer, prompt: Sequence[Message]) -> list[int]:
    return base.render(_plain(prompt), add_generation_prompt=True)


def length_of(base: Renderer, example: Example) -> int:
    """How many tokens a row has, for the price of one rendering; `render_row` takes two more for each answer."""
    return len(base.render(_plain(example.messages), add_generation_prompt=False))


def render_row(base: Renderer, example: Example) -> TokenRow:
    """Every answer of the assistant that has weight is supervised, up to and including its end-of-turn token.

    The mask comes from rendering the part before an answer and the part up to its end, so any template works:

        <prefix ......... assistant>| answer <end> |\\n        supervised between the bars
    """
    whole = base.render(_plain(example.messages), add_generation_prompt=False)
    supervised: list[int] = []
    for i, message in enumerate(example.messages):
        if message.role == "assistant" and message.weight:
            prefix = render_prompt(base, example.messages[:i])
            upto = base.render(_plain(example.messages[: i + 1]), add_generation_prompt=False)
            if whole[: len(prefix)] != prefix:
                raise Invalid(
                    "the base's chat template renders an answer's prefix differently when the answer follows",
                    hint="train single-turn rows, or use a base whose template is append-only",
                )
            supervised += range(len(prefix), _end_of_turn(whole, len(prefix), len(upto), base.eos_token_ids))
    return TokenRow(tuple(whole), tuple(supervised))


def render_rows(base: Renderer, examples: Iterable[Example], max_len: int) -> Rendered:
    """Rows that fit `max_len`; longer ones are counted and left out, for a cut answer would teach to stop early."""
    rows = [render_row(base, example) for example in examples]
    kept = tuple(row for row in rows if len(row) <= max_len)
    if rows and not kept:
        raise Invalid(f"all {len(rows)} rows are longer than train.max_len = {max_len} tokens", param="train.max_len")
    if kept and not any(row.supervised for row in kept):
        raise Invalid("no token is supervised: there is nothing to learn", hint="is the answer empty in the template?")
    return Rendered(kept, len(rows) - len(kept))


def _end_of_turn(whole: Sequence[int], start: int, stop: int, ends: frozenset[int]) -> int:
    """One past the answer's last end token: what the template puts after it is never generated."""
    found = [at for at in range(start, min(stop, len(whole))) if whole[at] in ends]
    if not found:
        raise Invalid(
            "the chat template puts no end-of-turn token after an answer, so a model trained on it could not stop",
            hint="use a base whose template ends turns with one of its end tokens",
        )
    return found[-1] + 1


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.content} for message in messages]

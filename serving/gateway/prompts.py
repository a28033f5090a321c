"""A request's prompts as token ids, and as the text that `echo` repeats. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.base import Base
from serving.detokenizer import Decoder, Detokenizer
from serving.gateway.translate import messages_of, prompts_of
from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.completion import CompletionRequest


@dataclass(frozen=True)
class Prompt:
    ids: tuple[int, ...]
    text: str = ""
    offsets: tuple[int, ...] = ()
    """Where in the text each token begins. Text and offsets are there only to be echoed."""


def tokenise(base: Base, body: ChatRequest | CompletionRequest) -> list[Prompt]:
    """To be called from one thread at a time."""
    if isinstance(body, ChatRequest):
        return [Prompt(tuple(base.render(messages_of(body))))]
    given = prompts_of(body, base.profile.vocab_size)
    if not body.echo:
        return [
            Prompt(prompt if isinstance(prompt, tuple) else tuple(base.tokenizer.encode(prompt))) for prompt in given
        ]
    return [_spelled(base, prompt) if isinstance(prompt, tuple) else _located(base, prompt) for prompt in given]


def _located(base: Base, text: str) -> Prompt:
    encoded = base.tokenizer(text, return_offsets_mapping=True)
    return Prompt(tuple(encoded["input_ids"]), text, tuple(begin for begin, _ in encoded["offset_mapping"]))


def _spelled(base: Base, ids: tuple[int, ...]) -> Prompt:
    """A token that ends half a character begins where that character will."""
    detokenizer = Detokenizer(_Verbatim(base.tokenizer.backend_tokenizer))
    text, offsets = "", []
    for token in ids:
        offsets.append(len(text))
        text += detokenizer.add(token)
    return Prompt(ids, text + detokenizer.flush(), tuple(offsets))


@dataclass(frozen=True)
class _Verbatim:
    """Decodes special tokens too: what is echoed is what was asked."""

    decoder: Decoder

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return self.decoder.decode(ids, skip_special_tokens=False)

"""Prompts as token ids, and as the text that `echo` repeats. Applies no template and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.errors import Invalid
from serving.base import Base
from serving.detokenizer import Decoder, Detokenizer

Given = str | tuple[int, ...]
"""A prompt as text, or as token ids."""


@dataclass(frozen=True)
class Prompt:
    ids: tuple[int, ...]
    text: str = ""
    offsets: tuple[int, ...] = ()
    """Where in the text each token begins. Text and offsets are there only to be echoed."""


def read_prompts(given: str | list[Any], vocab_size: int, *, param: str, most: int) -> list[Given]:
    """One or several prompts: a string, token ids, or a list of either."""
    if isinstance(given, str):
        return [given]
    if given and all(_is_id(each) for each in given):
        return [_ids(given, param, vocab_size)]
    if not 1 <= len(given) <= most:
        raise Invalid(f"{param} takes between 1 and {most} texts", param=param, code="invalid_value")
    return [
        each if isinstance(each, str) else _ids(each, f"{param}[{index}]", vocab_size)
        for index, each in enumerate(given)
    ]


def plain_texts(given: str | list[Any]) -> list[str]:
    """The prompts that are text."""
    return [given] if isinstance(given, str) else [each for each in given if isinstance(each, str)]


def tokenised(base: Base, given: Given) -> Prompt:
    """To be called from one thread at a time."""
    return Prompt(given if isinstance(given, tuple) else tuple(base.tokenizer.encode(given)))


def echoed(base: Base, given: Given) -> Prompt:
    """With its text, and where in it each token begins. To be called from one thread at a time."""
    return _spelled(base, given) if isinstance(given, tuple) else _located(base, given)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(value: object, param: str, vocab_size: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(_is_id(each) for each in value):
        raise Invalid(f"{param} is a string or a list of token ids", param=param, code="invalid_value")
    outside = next((each for each in value if not 0 <= each < vocab_size), None)
    if outside is not None:
        raise Invalid(f"token id {outside} is outside the vocabulary", param=param, code="invalid_value")
    return tuple(value)


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

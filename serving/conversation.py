"""A conversation as token ids, by the base's chat template. What a user writes never becomes a control token.

Only where a text spells a special token is it taken apart: the spelling is masked while the template is applied, so
that every special token left in the text is the template's own. All else is tokenised as the tokenizer itself would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from registry.errors import Invalid

FENCE = "\ufdd0"
"""A character that stands for nothing in Unicode."""


class ChatTemplate:
    """The template that came with a tokenizer. To be used from one thread at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._specials = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        longest_first = sorted(self._specials, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(text) for text in longest_first) or r"(?!)")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Invalid if the template refuses the messages."""
        try:
            return self._render(messages, add_generation_prompt, tools)
        except RecursionError as error:
            raise Invalid("messages or tools are nested too deeply", param="messages") from error

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> list[int]:
        texts = list(_texts([messages, tools]))
        if not any(self._pattern.search(text) for text in texts):
            return [int(token) for token in self._apply(messages, add_generation_prompt, tools, tokenize=True)]
        mask = _Mask(self._specials, self._pattern, texts)
        text = self._apply(mask.put_on(messages), add_generation_prompt, mask.put_on(tools), tokenize=False)
        ids: list[int] = []
        for piece in re.split(f"({self._pattern.pattern})", text):
            ids += [self._specials[piece]] if piece in self._specials else self._spelled_out(mask.take_off(piece))
        return ids

    def _spelled_out(self, text: str) -> list[int]:
        """As plain text, whatever it spells."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _apply(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        tokenize: bool,
    ) -> Any:
        try:
            return self._tokenizer.apply_chat_template(
                list(messages),
                tools=None if tools is None else list(tools),
                add_generation_prompt=add_generation_prompt,
                tokenize=tokenize,
                return_dict=False,
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise Invalid(f"the chat template refuses these messages: {error}", param="messages") from error


class _Mask:
    """Replaces the spellings of special tokens by something that nobody spells, and back."""

    def __init__(self, specials: Mapping[str, int], pattern: re.Pattern[str], texts: Sequence[str]) -> None:
        self._pattern = pattern
        self._fence = FENCE
        while any(self._fence in text for text in texts):
            self._fence += FENCE
        self._by_id = {str(id): text for text, id in specials.items()}
        self._ids = {text: str(id) for text, id in specials.items()}
        self._masked = re.compile(f"{self._fence}([0-9]+){self._fence}")

    def put_on(self, value: Any) -> Any:
        """On every text within messages or tools, names of fields too."""
        if isinstance(value, str):
            return self._pattern.sub(lambda found: f"{self._fence}{self._ids[found[0]]}{self._fence}", value)
        if isinstance(value, Mapping):
            return {self.put_on(key): self.put_on(each) for key, each in value.items()}
        return [self.put_on(each) for each in value] if isinstance(value, list | tuple) else value

    def take_off(self, text: str) -> str:
        return self._masked.sub(lambda found: self._by_id[found[1]], text)


def _texts(value: Any) -> Iterator[str]:
    """Every text within messages or tools."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)

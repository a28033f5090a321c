"""A conversation as token ids, by the base's chat template. What a user writes never becomes a control token.

Only where a content spells a special token is it taken apart: the spelling is masked while the template is applied, so
that every special token left in the text is the template's own. All else is tokenised as the tokenizer itself would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> list[int]:
        """Invalid if the template refuses the messages."""
        contents = [content for message in messages if isinstance(content := message.get("content"), str)]
        if not any(self._pattern.search(content) for content in contents):
            return [int(token) for token in self._apply(messages, add_generation_prompt, tokenize=True)]
        mask = _Mask(self._specials, self._pattern, contents)
        masked = [{**message, "content": mask.put_on(message.get("content"))} for message in messages]
        text = self._apply(masked, add_generation_prompt, tokenize=False)
        ids: list[int] = []
        for piece in re.split(f"({self._pattern.pattern})", text):
            ids += [self._specials[piece]] if piece in self._specials else self._spelled_out(mask.take_off(piece))
        return ids

    def _spelled_out(self, text: str) -> list[int]:
        """As plain text, whatever it spells."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _apply(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool, *, tokenize: bool) -> Any:
        try:
            return self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=add_generation_prompt, tokenize=tokenize, return_dict=False
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise Invalid(f"the chat template refuses these messages: {error}", param="messages") from error


class _Mask:
    """Replaces the spellings of special tokens by something that nobody spells, and back."""

    def __init__(self, specials: Mapping[str, int], pattern: re.Pattern[str], contents: Sequence[str]) -> None:
        self._pattern = pattern
        self._fence = FENCE
        while any(self._fence in content for content in contents):
            self._fence += FENCE
        self._by_id = {str(id): text for text, id in specials.items()}
        self._ids = {text: str(id) for text, id in specials.items()}
        self._masked = re.compile(f"{self._fence}([0-9]+){self._fence}")

    def put_on(self, content: Any) -> Any:
        if not isinstance(content, str):
            return content
        return self._pattern.sub(lambda found: f"{self._fence}{self._ids[found[0]]}{self._fence}", content)

    def take_off(self, text: str) -> str:
        return self._masked.sub(lambda found: self._by_id[found[1]], text)

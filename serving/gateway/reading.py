"""Texts become token ids on two threads, so that long texts hold up no short ones; what cannot fit is not read whole.

Of a text that is unlikely to fit the beginning is read, and twice as much each time, until its tokens are too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from serving.base import Base
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.dialect.question import Question

T = TypeVar("T")

LONG = 16_384
"""Characters; what a tokenizer reads in a few hundredths of a second."""
CHARACTERS_PER_TOKEN = 4
WORDS_PER_TOKEN = 4
"""More than any tokenizer puts into one; most never put two."""
MARGIN = 1.05
"""The beginning of a text may have a few tokens more than it has as a part of the whole."""


class Reading:
    """Owns its threads; each has a tokenizer that only it uses."""

    def __init__(self, base: Base, max_context: int) -> None:
        self._base = base
        self._max_context = max_context
        self._short = ThreadPoolExecutor(1, "gateway-text")
        self._long = ThreadPoolExecutor(1, "gateway-long-text")

    async def run(self, read: Callable[[Base], T], num_characters: int) -> T:
        """What `read` makes of the base, whose tokenizer nobody else uses meanwhile."""
        if num_characters > LONG:
            reading = self._long.submit(lambda: read(self._twin))
        else:
            reading = self._short.submit(read, self._base)
        return await asyncio.wrap_future(reading)

    async def prompts(self, question: Question) -> list[Prompt]:
        """Invalid where one of them is clearly too long."""
        texts = question.texts()

        def read(base: Base) -> list[Prompt]:
            for text in texts:
                check_length(base, text, question, self._max_context)
            return question.prompts(base)

        return await self.run(read, sum(map(len, texts)))

    def close(self) -> None:
        self._short.shutdown(wait=True)
        self._long.shutdown(wait=True)

    @cached_property
    def _twin(self) -> Base:
        return self._base.twin()


def check_length(base: Base, text: str, question: Question, max_context: int) -> None:
    """Invalid as soon as so many tokens are counted that the whole cannot fit; passes what may."""
    if len(text) > WORDS_PER_TOKEN * max_context and (words := len(text.split())) > WORDS_PER_TOKEN * max_context:
        question.sampling(words, max_context, None)
    length = CHARACTERS_PER_TOKEN * max_context
    while length < len(text):
        counted = len(base.tokenizer(text[:length], add_special_tokens=False)["input_ids"])
        if counted > MARGIN * max_context:
            question.sampling(counted, max_context, None)
        length *= 2

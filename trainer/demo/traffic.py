"""Traffic as a product app makes it: the official `openai` client, streaming, many requests at once.

Knows the HTTP face only. What each answer claims about itself (version, digest) is read from the response headers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from openai import AsyncOpenAI, OpenAIError

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Question:
    """One request to come. `session` is the unit drift is counted in."""

    model: str
    messages: Messages
    session: str
    max_tokens: int = 12


@dataclass(frozen=True)
class Answer:
    """What came back, and between which moments (seconds, monotonic clock). `error` is empty when all went well."""

    question: Question
    asked: float
    answered: float
    text: str = ""
    request_id: str = ""
    version: str = ""
    digest: str = ""
    error: str = ""


class Traffic:
    """Asks questions at one gateway, at most `concurrency` at a time."""

    def __init__(self, url: str, concurrency: int = 16, timeout_s: float = 120.0) -> None:
        self._url = url
        self._concurrency = concurrency
        self._timeout_s = timeout_s

    def ask(self, questions: Sequence[Question], on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
        """Ask all, wait for all; answers in the order of the questions."""
        return asyncio.run(self._ask_all(questions, on_answer or (lambda _: None)))

    def ask_until(
        self, stop: Callable[[], bool], questions: Iterable[Question], on_answer: Callable[[Answer], object]
    ) -> None:
        """Keep `concurrency` requests in flight, taken in turn from `questions`, until `stop()` is true."""
        asyncio.run(self._ask_until(stop, questions, on_answer))

    async def _ask_all(self, questions: Sequence[Question], on_answer: Callable[[Answer], None]) -> list[Answer]:
        gate = asyncio.Semaphore(self._concurrency)

        async with self._client() as client:

            async def one(question: Question) -> Answer:
                async with gate:
                    answer = await _stream(client, question)
                on_answer(answer)
                return answer

            return await asyncio.gather(*(one(question) for question in questions))

    async def _ask_until(
        self, stop: Callable[[], bool], questions: Iterable[Question], on_answer: Callable[[Answer], object]
    ) -> None:
        source = iter(questions)

        async with self._client() as client:

            async def caller() -> None:
                while not stop():
                    on_answer(await _stream(client, next(source)))

            await asyncio.gather(*(caller() for _ in range(self._concurrency)))

    def _client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self._url}/v1", api_key="none", timeout=self._timeout_s, max_retries=0)


async def _stream(client: AsyncOpenAI, question: Question) -> Answer:
    asked = time.monotonic()
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=question.model,
            messages=question.messages,
            max_tokens=question.max_tokens,
            temperature=0,
            user=question.session,
            stream=True,
        )
        pieces = [choice.delta.content or "" async for chunk in raw.parse() for choice in chunk.choices]
    except OpenAIError as error:
        return Answer(question, asked, time.monotonic(), error=f"{type(error).__name__}: {error}")
    return Answer(
        question,
        asked,
        time.monotonic(),
        text="".join(pieces).strip(),
        request_id=raw.headers.get("x-request-id", ""),
        version=raw.headers.get("x-adapter-version", ""),
        digest=raw.headers.get("x-adapter-digest", ""),
    )

"""Long texts hold up no short ones, and what cannot fit is not tokenised to its end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from registry.errors import Invalid
from serving.gateway.dialect.text_question import TextQuestion
from serving.gateway.reading import LONG, check_length
from serving.gateway.wire.completion import CompletionRequest

if TYPE_CHECKING:
    from serving.base import Base
    from tests.gateway.conftest import Running


def question(prompt: str) -> TextQuestion:
    return TextQuestion(CompletionRequest(model="x", prompt=prompt))


def test_a_text_is_read_until_it_is_clearly_too_long(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = type(tiny_base.tokenizer).__call__

    def counting(self: object, text: str, **options: object) -> object:
        read.append(len(text))
        return real(self, text, **options)

    monkeypatch.setattr(type(tiny_base.tokenizer), "__call__", counting)
    with pytest.raises(Invalid) as refused:
        check_length(tiny_base, "x" * 1_000_000, question("x"), 1024)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "prompt")
    assert read == [4096]
    check_length(tiny_base, "x" * 4000, question("x"), 1024)
    assert read == [4096]


def test_a_text_of_too_many_words_is_not_read_at_all(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tiny_base.tokenizer), "__call__", None)
    with pytest.raises(Invalid, match="5000 tokens of prompt"):
        check_length(tiny_base, "a " * 5000, question("x"), 1024)


def test_what_may_fit_is_left_to_the_exact_count(tiny_base: Base) -> None:
    check_length(tiny_base, "x" * 5000, question("x"), 5000)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_text_far_too_long_is_an_error_of_its_field(running: Running, path: str) -> None:
    text = "word " * 200_000
    asked = {"prompt": text} if path == "/v1/completions" else {"messages": [{"role": "user", "content": text}]}
    response = running.http.post(path, json={"model": "alpha", "max_tokens": 1, **asked})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["param"] == next(iter(asked))


def test_a_short_text_does_not_wait_for_a_long_one(running: Running) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(base: Base) -> None:
        entered.set()
        leave.wait(10)

    long = threading.Thread(target=lambda: _run(running, hold, LONG + 1))
    long.start()
    assert entered.wait(5)
    since = time.monotonic()
    assert running.chat("alpha").status_code == 200
    assert time.monotonic() - since < 5
    leave.set()
    long.join()


def _run(running: Running, read: object, characters: int) -> None:
    import asyncio

    asyncio.run(running.gateway.reading.run(read, characters))  # type: ignore[arg-type]

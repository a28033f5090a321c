from typing import Any

import pytest

from registry.errors import Invalid
from trainer.dataset import Example
from trainer.rendering import render_prompt, render_row, render_rows
from trainer.rows import Message


def conversation(*turns: str) -> Example:
    roles = ("user", "assistant")
    return Example(tuple(Message(roles[i % 2], turn) for i, turn in enumerate(turns)))


def test_the_answer_and_its_end_are_supervised_and_nothing_else(tiny_base: Any) -> None:
    row = render_row(tiny_base, conversation("question", "answer"))
    assert tiny_base.tokenizer.decode([row.tokens[i] for i in row.supervised]) == "answer<|im_end|>"
    assert row.supervised[0] == len(render_prompt(tiny_base, conversation("question", "answer").prompt))


def test_every_turn_of_the_assistant_is_supervised(tiny_base: Any) -> None:
    row = render_row(tiny_base, conversation("a", "first", "b", "second"))
    said = tiny_base.tokenizer.decode([row.tokens[i] for i in row.supervised])
    assert said == "first<|im_end|>second<|im_end|>"


def test_an_answer_without_weight_is_only_read(tiny_base: Any) -> None:
    before, first, *others = conversation("a", "first", "b", "second").messages
    row = render_row(tiny_base, Example((before, Message("assistant", first.content, 0), *others)))
    said = tiny_base.tokenizer.decode([row.tokens[i] for i in row.supervised])
    assert said == "second<|im_end|>"


def test_rows_that_do_not_fit_are_counted_not_cut(tiny_base: Any) -> None:
    rendered = render_rows(tiny_base, [conversation("a", "b"), conversation("a" * 200, "b")], max_len=100)
    assert (len(rendered.rows), rendered.num_too_long) == (1, 1)
    with pytest.raises(Invalid, match=r"all 1 rows are longer than train\.max_len = 20"):
        render_rows(tiny_base, [conversation("a" * 200, "b")], max_len=20)


class Odd:
    """A template gone wrong: no end token, or a prefix that changes once the answer follows."""

    eos_token_ids = frozenset({2})

    def __init__(self, *, ends: bool, stable: bool) -> None:
        self.ends, self.stable = ends, stable

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> list[int]:
        if add_generation_prompt:
            return [5, 6] if self.stable else [9, 9]
        return [5, 6, 7, *([2] if self.ends else [])]


def test_templates_that_cannot_be_trained_on_are_refused() -> None:
    row = conversation("a", "b")
    assert render_row(Odd(ends=True, stable=True), row).supervised == (2, 3)
    with pytest.raises(Invalid, match="no end-of-turn token"):
        render_row(Odd(ends=False, stable=True), row)
    with pytest.raises(Invalid, match="prefix differently"):
        render_row(Odd(ends=True, stable=False), row)

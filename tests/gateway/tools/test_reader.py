"""Calls read from answers, however the answers are cut."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.tools.format import HERMES, LLAMA, MISTRAL, ToolFormat, format_of_template
from serving.gateway.tools.reader import Arguments, Begin, Piece, Text, ToolReader

NAMES = frozenset({"weather", "time.now"})
ONE = '{"name": "weather", "arguments": {"city": "Oslo", "note": "a } in a \\" string {"}}'
OTHER = '{"name": "time.now", "arguments": {}}'
LLAMA_CALL = '{"name": "weather", "parameters": {"city": "Oslo"}}'


def read(format: ToolFormat, chunks: list[str], *, many: bool = True) -> list[Piece]:
    reader = ToolReader(format, NAMES, many=many)
    return [*(piece for chunk in chunks for piece in reader.feed(chunk)), *reader.end()]


def joined(pieces: list[Piece]) -> tuple[str, list[tuple[str, str]]]:
    """All text, and each call with its arguments."""
    text, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        if isinstance(piece, Text):
            text += piece.text
        elif isinstance(piece, Begin):
            assert piece.index == len(calls)
            calls.append((piece.name, ""))
        else:
            assert isinstance(piece, Arguments)
            assert piece.index == len(calls) - 1
            calls[-1] = calls[-1][0], calls[-1][1] + piece.text
    return text, calls


HAPPY = [
    (HERMES, f"<tool_call>\n{ONE}\n</tool_call>", "", ["weather"]),
    (HERMES, f"Let me see.\n<tool_call>\n{ONE}\n</tool_call>\n<tool_call>{OTHER}</tool_call>", "Let me see.\n", None),
    (HERMES, f"<tool_call>{ONE}</tool_call> There you are.", "There you are.", ["weather"]),
    (MISTRAL, f"[TOOL_CALLS] [{ONE}, {OTHER}]", "", None),
    (MISTRAL, f"[TOOL_CALLS]{ONE}", "", ["weather"]),
    (LLAMA, LLAMA_CALL, "", ["weather"]),
    (LLAMA, f"<|python_tag|>{LLAMA_CALL}; {LLAMA_CALL}", "", ["weather", "weather"]),
]


@pytest.mark.parametrize(("format", "answer", "text", "names"), HAPPY)
def test_calls_are_found(format: ToolFormat, answer: str, text: str, names: list[str] | None) -> None:
    said, calls = joined(read(format, [answer]))
    assert said == text
    assert [name for name, _ in calls] == (names or ["weather", "time.now"])
    assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)
    if ONE in answer:
        assert json.loads(calls[0][1]) == {"city": "Oslo", "note": 'a } in a " string {'}


@given(st.sampled_from(HAPPY), st.lists(st.integers(0, 160), max_size=12))
def test_it_does_not_matter_how_an_answer_is_cut(case: tuple[ToolFormat, str, str, None], cuts: list[int]) -> None:
    format, answer, *_ = case
    ends = sorted({min(cut, len(answer)) for cut in cuts} | {0, len(answer)})
    chunks = [answer[begin:end] for begin, end in pairwise(ends)]
    assert joined(read(format, chunks)) == joined(read(format, [answer])) == joined(read(format, list(answer)))


@given(st.sampled_from([HERMES, MISTRAL, LLAMA]), st.text(alphabet='<>/tol_ca{}"[]\\ nTOLCAS', max_size=60))
def test_nothing_that_is_no_call_is_lost(format: ToolFormat, answer: str) -> None:
    assert joined(read(format, list(answer))) == (answer, [])


@pytest.mark.parametrize(
    "answer",
    [
        "<tool_call>\nnot json\n</tool_call>",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"name": 7, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": 7}</tool_call>',
        '<tool_call>{"name": "weather"',
        '<tool_call>{"arguments": {"city": "\\ud800"}, "name": "weather"}</tool_call>',
        "I < you </tool_call> <tool_cal",
    ],
)
def test_what_only_looks_like_a_call_is_text(answer: str) -> None:
    assert joined(read(HERMES, list(answer))) == (answer, [])


def test_arguments_may_come_first_or_as_a_string() -> None:
    turned = '<tool_call>{"arguments": {"city": "Oslo"}, "name": "weather"}</tool_call>'
    assert joined(read(HERMES, list(turned)))[1] == [("weather", '{"city": "Oslo"}')]
    quoted = '<tool_call>{"name": "weather", "arguments": "{\\"city\\": 1}"}</tool_call>'
    assert joined(read(HERMES, list(quoted)))[1] == [("weather", '{"city": 1}')]


def test_arguments_are_told_as_they_come_and_as_far_as_they_came() -> None:
    reader = ToolReader(HERMES, NAMES)
    assert reader.feed('<tool_call>\n{"name": "weather", "arguments": ') == []
    assert reader.feed('{"ci') == [Begin(0, "weather"), Arguments(0, '{"ci')]
    assert reader.feed('ty": 1') == [Arguments(0, 'ty": 1')]
    assert reader.end() == []


@pytest.mark.parametrize("begin", ['{"x": "', '{"name": "'])
def test_a_long_answer_that_looks_like_a_call_is_read_once(begin: str) -> None:
    """Whatever is done for each token holds up everybody on the event loop."""
    started = time.process_time()
    assert joined(read(LLAMA, [begin, *["abcd"] * 8000])) == (begin + "abcd" * 8000, [])
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize("text", ["", '{"x": "'])
def test_calls_within_calls_are_not_read_over_and_over(text: str) -> None:
    chunks = [
        *(["<tool_call>", text] if text else []),
        *["<tool_call>", "{"] * 2500,
        '"}' if text else "",
        *["}"] * 2500,
    ]
    started = time.process_time()
    assert joined(read(HERMES, chunks)) == ("".join(chunks), [])
    assert time.process_time() - started < 2.0


def test_only_the_first_call_counts_where_one_is_wanted() -> None:
    answer = f"<tool_call>{ONE}</tool_call><tool_call>{OTHER}</tool_call>"
    assert [name for name, _ in joined(read(HERMES, [answer], many=False))[1]] == ["weather"]


@pytest.mark.parametrize(
    ("template", "format"),
    [
        ("{{ messages }}", None),
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("{% if tools %}<tool_call><function=x>{% endif %}", None),
        ("{% if tools %}[AVAILABLE_TOOLS] [TOOL_CALLS]{% endif %}", MISTRAL),
        ("{% if tools %}[TOOL_CALLS]f[ARGS]{% endif %}", None),
        ("{% if tools %}<|python_tag|>{% endif %}", LLAMA),
        ("{% if tools %}<call>{% endif %}", None),
    ],
)
def test_the_template_says_how_calls_are_written(template: str, format: ToolFormat | None) -> None:
    assert format_of_template(template) is format

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.base import Base
from serving.detokenizer import Detokenizer


def stream(base: Base, tokens: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], Detokenizer]:
    detokenizer = Detokenizer(base.tokenizer.backend_tokenizer, stop)
    pieces = []
    for token in tokens:
        pieces.append(detokenizer.add(token))
        if detokenizer.stopped:
            break
    return [*pieces, detokenizer.flush()], detokenizer


def ids(base: Base, text: str) -> list[int]:
    return list(base.tokenizer(text, add_special_tokens=False).input_ids)


def test_a_character_appears_only_when_it_is_whole(tiny_base: Any) -> None:
    pieces, _ = stream(tiny_base, ids(tiny_base, "a€😀b"))
    assert [piece for piece in pieces if piece] == ["a", "€", "😀", "b"]


def test_half_a_character_at_the_end_is_not_lost(tiny_base: Any) -> None:
    pieces, _ = stream(tiny_base, ids(tiny_base, "a€")[:-1])
    assert "".join(pieces) == "a\ufffd"


def test_special_tokens_have_no_text(tiny_base: Any) -> None:
    pieces, _ = stream(tiny_base, [1, *ids(tiny_base, "hi"), 2])
    assert "".join(pieces) == "hi"


def test_a_stop_string_is_cut_and_its_beginning_never_shown(tiny_base: Any) -> None:
    pieces, detokenizer = stream(tiny_base, ids(tiny_base, "one END two"), stop=("END",))
    assert "".join(pieces) == "one "
    assert detokenizer.stopped
    assert not any("E" in piece for piece in pieces)


def test_a_beginning_that_turns_out_harmless_is_released(tiny_base: Any) -> None:
    pieces, detokenizer = stream(tiny_base, ids(tiny_base, "ENergy EN"), stop=("END",))
    assert "".join(pieces) == "ENergy EN"
    assert not detokenizer.stopped


@settings(max_examples=80, deadline=None)
@given(tokens=st.lists(st.integers(0, 258), max_size=40))
def test_the_pieces_are_the_text_whatever_the_tokens(tiny_base: Any, tokens: list[int]) -> None:
    pieces, _ = stream(tiny_base, tokens)
    assert "".join(pieces) == tiny_base.tokenizer.backend_tokenizer.decode(tokens, skip_special_tokens=True)


@settings(max_examples=200, deadline=None)
@given(picks=st.lists(st.integers(0, 9), min_size=30, max_size=150))
def test_however_many_halves_of_characters_come_the_pieces_are_the_text(tiny_base: Any, picks: list[int]) -> None:
    halves = [*ids(tiny_base, "😀"), *ids(tiny_base, "€"), *ids(tiny_base, "é"), 2]
    tokens = [halves[pick] for pick in picks]
    pieces, _ = stream(tiny_base, tokens)
    assert "".join(pieces) == tiny_base.tokenizer.backend_tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("text", ["", "hello"])
def test_halves_and_tokens_without_text_take_no_longer_the_more_there_are(tiny_base: Any, text: str) -> None:
    half, special = ids(tiny_base, "€")[-1], 2
    for token in (half, special):
        started = time.process_time()
        stream(tiny_base, [*ids(tiny_base, text), *[token] * 20_000])
        assert time.process_time() - started < 2.0


@settings(max_examples=80, deadline=None)
@given(text=st.text("abcAB€", max_size=30), stop=st.text("abcAB€", min_size=1, max_size=4))
def test_streaming_finds_the_stop_where_a_search_finds_it(tiny_base: Any, text: str, stop: str) -> None:
    pieces, detokenizer = stream(tiny_base, ids(tiny_base, text), stop=(stop,))
    assert "".join(pieces) == text.split(stop, maxsplit=1)[0]
    assert detokenizer.stopped == (stop in text)


def test_a_stop_string_that_comes_too_early_is_text(tiny_base: Any) -> None:
    detokenizer = Detokenizer(tiny_base.tokenizer.backend_tokenizer, ("END",))
    tokens = ids(tiny_base, "an END, the END")
    pieces = [detokenizer.add(token, may_stop=place >= 8) for place, token in enumerate(tokens)]
    assert "".join(pieces) == "an END, the "
    assert detokenizer.stopped

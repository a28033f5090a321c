from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Invalid, NotFound
from tests.trainer.letters import letter_rows
from trainer.dataset import Example, Splits, Verbaliser, hold_out, load_splits, read_splits, write_splits
from trainer.rows import Message, read_rows
from trainer.spec import Data, Split

if TYPE_CHECKING:
    from tests.trainer.conftest import WriteJsonl

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


def test_the_three_forms_become_conversations(write_jsonl: WriteJsonl) -> None:
    rows = [CHAT, {"prompt": "2 + 2", "completion": "4"}, {"prompt": "3 + 3", "completion": "6"}]
    splits, verbaliser = load_splits(
        Data(train=str(write_jsonl(rows)), split=Split(val=0.0, test=0.3)), classify=False, seed=0
    )
    answers = {row.prompt[-1].content: row.answer for row in (*splits.train, *splits.test)}
    assert answers == {"hi": "hello", "2 + 2": "4", "3 + 3": "6"}
    assert verbaliser is None


def test_labels_are_said_in_the_words_of_the_spec(write_jsonl: WriteJsonl) -> None:
    data = Data(
        train=str(write_jsonl(letter_rows(("vowels", "stops"), 20))),
        instruction="Vowels or stops?",
        labels={"v": "vowels", "s": "stops"},
    )
    splits, verbaliser = load_splits(data, classify=True, seed=0)
    row = splits.train[0]
    assert row.prompt[0] == Message("system", "Vowels or stops?")
    assert verbaliser is not None
    assert row.answer == verbaliser.say(row.label or "")


def talk(of_the_answer: str) -> str:
    question, answer = '{"role": "user", "content": "x"}', f'{{"role": "assistant", "content": "y", {of_the_answer}}}'
    return f'{{"messages": [{question}, {answer}]}}\n'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json\n", "not valid JSON"),
        ("[1]\n", "a row is a JSON object"),
        ('{"text": "x"}\n', "needs messages, prompt . completion or text . label; found text"),
        ('{"prompt": "x"}\n', "completion must be a non-empty string"),
        ('{"prompt": " ", "completion": "y"}\n', "prompt must be a non-empty string"),
        ('{"text": "x", "label": 3}\n', "label must be"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "a list of at least two"),
        ('{"messages": [{"role": "usr", "content": "x"}, {}]}\n', r"messages\[0\].role is none of"),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}\n',
            "must be the assistant's",
        ),
        ('{"prompt": "x", "completion": "y", "meta": 1}\n', "meta is an object"),
        (talk('"weight": 0.5'), r"messages\[1\].weight is neither 0 nor 1"),
        (talk('"weight": 0'), "the last answer has weight 0"),
        (talk('"tool_calls": [{}]'), r"messages\[1\].tool_calls cannot be trained on"),
        ('{"messages": [], "tools": [{}]}\n', "tools cannot be trained on"),
        ('"\\ud800"\n', ":2: "),
    ],
)
def test_a_bad_line_names_file_line_and_reason(write_jsonl: WriteJsonl, line: str, complaint: str) -> None:
    path = write_jsonl([CHAT, line])
    with pytest.raises(Invalid, match=complaint) as caught:
        read_rows(path)
    assert caught.value.message.startswith(f"{path}:2: ")


def test_files_without_rows(write_jsonl: WriteJsonl, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no rows"):
        read_rows(write_jsonl(["\n"]))
    with pytest.raises(NotFound, match="does not exist"):
        read_rows(tmp_path / "absent.jsonl")


def test_a_label_outside_the_spec_is_named(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl([{"text": "a", "label": "yes"}, {"text": "b", "label": "maybe"}])
    with pytest.raises(Invalid, match=r"data.jsonl:2: label 'maybe' is not in data.labels"):
        load_splits(Data(train=str(path), labels={"yes": "yes", "no": "no"}), classify=True, seed=0)


def test_duplicates_and_contradictions_are_dropped_and_counted(write_jsonl: WriteJsonl) -> None:
    rows = letter_rows(("vowels", "stops"), 20)
    again = [{"text": rows[0]["text"].upper() + "  ", "label": rows[0]["label"]}]
    against = [{"text": rows[1]["text"], "label": "v"}]
    splits, _ = load_splits(Data(train=str(write_jsonl(rows + again + against))), classify=True, seed=0)
    assert splits.dropped == {"duplicate": 1, "conflicting label": 2}
    assert splits.num_rows == len(rows) - 1


def test_rows_held_out_in_files_never_train(write_jsonl: WriteJsonl) -> None:
    rows = letter_rows(("vowels", "stops"), 20)
    data = Data(
        train=str(write_jsonl(rows)),
        test=str(write_jsonl(rows[:6], "test.jsonl")),
        val=str(write_jsonl(rows[4:10], "val.jsonl")),
    )
    splits, _ = load_splits(data, classify=True, seed=0)
    keys = [{row.prompt_key for row in part} for _, part in splits.items()]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert len(splits.test) == 6


def example(prompt: str, group: str | None = None, answer: str = "x") -> Example:
    meta: dict[str, Any] = {} if group is None else {"group": group}
    return Example((Message("user", prompt), Message("assistant", answer)), meta=meta)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "3", "4", None]), st.integers(0, 9))
    ),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_no_group_and_no_prompt_straddles(rows: list[tuple[str, str | None, int]], fraction: float, seed: int) -> None:
    examples = [example(prompt, group, str(answer)) for prompt, group, answer in rows]
    kept, held = hold_out(examples, fraction, seed=seed)
    assert len(kept) + len(held) == len(examples)
    assert not {row.prompt_key for row in kept} & {row.prompt_key for row in held}
    groups = [{row.meta["group"] for row in part if "group" in row.meta} for part in (kept, held)]
    assert not groups[0] & groups[1]


def test_a_split_is_repeatable_and_of_the_asked_size() -> None:
    rows = [example(f"prompt {i}") for i in range(100)]
    kept, held = hold_out(rows, 0.25, seed=3)
    assert (len(kept), len(held)) == (75, 25)
    assert {row.key for row in hold_out(rows[::-1], 0.25, seed=3)[1]} == {row.key for row in held}


def test_splits_survive_writing(tmp_path: Path) -> None:
    unlearned = Message("assistant", "first", 0)
    long = Example((*example("d").prompt, unlearned, *example("d").messages))
    splits = Splits(
        (example("a", "g"), long), (example("b"),), (Example(example("c").messages, "yes", {"source": "feedback"}),)
    )
    write_splits(splits, tmp_path / "rows.jsonl")
    assert read_splits(tmp_path / "rows.jsonl") == splits
    assert splits.counts() == {"train": 2, "val": 1, "test": 1, "source:feedback": 1}


def test_an_answer_is_read_as_a_label() -> None:
    verbaliser = Verbaliser({"tech": "tech", "pos": "very good", "neg": "bad"})
    assert verbaliser.read(" Tech.\n") == "tech"
    assert verbaliser.read("It is very good indeed") == "pos"
    assert verbaliser.read("not technical") is None
    assert verbaliser.read("tech or bad") is None
    assert verbaliser.read("") is None

"""The dataset: rows made into examples, deduplicated, split, written back. Knows no tokens and no model."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from registry.errors import Invalid
from trainer.rows import Message, Row, read_rows
from trainer.spec import Data

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the assistant's answer. `label` is set where the task classifies."""

    messages: tuple[Message, ...]
    label: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    @property
    def prompt_key(self) -> str:
        """Equal for prompts that differ only in case, spacing or Unicode form."""
        return _key(self.prompt)

    @property
    def key(self) -> str:
        return _key(self.messages)


@dataclass(frozen=True)
class Verbaliser:
    """Labels and the words that stand for them in an answer."""

    words: Mapping[str, str]

    def say(self, label: str) -> str:
        return self.words[label]

    def read(self, answer: str) -> str | None:
        """The label an answer means: its exact words, else the one label it mentions; None when neither."""
        said = normalise(answer).strip(" .,:;!\"'*")
        exact = {normalise(word): label for label, word in self.words.items()}
        if said in exact:
            return exact[said]
        padded = "".join(char if char.isalnum() else " " for char in said).split()
        mentioned = {label for word, label in exact.items() if _mentions(padded, word)}
        return mentioned.pop() if len(mentioned) == 1 else None


@dataclass(frozen=True)
class Splits:
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    test: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[str, tuple[Example, ...]]]:
        for name in SPLITS:
            yield name, getattr(self, name)

    @property
    def num_rows(self) -> int:
        return sum(len(rows) for _, rows in self.items())

    def counts(self) -> dict[str, int]:
        """Rows per split, and per source where rows say where they came from."""
        counts = {name: len(rows) for name, rows in self.items()}
        sources = Counter(str(row.meta["source"]) for _, rows in self.items() for row in rows if "source" in row.meta)
        return counts | {f"source:{name}": count for name, count in sorted(sources.items())}


def load_splits(data: Data, *, classify: bool, seed: int) -> tuple[Splits, Verbaliser | None]:
    """Read what the spec names; every row ends up in exactly one split, or is counted as dropped."""
    files = {name: read_rows(Path(path)) for name in SPLITS if (path := getattr(data, name)) is not None}
    verbaliser = _verbaliser(data, files) if classify else None
    examples = {name: [example_of(row, data, verbaliser) for row in rows] for name, rows in files.items()}
    dropped: Counter[str] = Counter()
    for name in ("test", "val"):
        seen = {row.prompt_key for other in SPLITS[SPLITS.index(name) + 1 :] for row in examples.get(other, [])}
        if name in examples:
            examples[name] = _without(examples[name], seen, dropped, f"{name}: also in a later split")
    held_out = {row.prompt_key for name in ("val", "test") for row in examples.get(name, [])}
    rows = _without(examples["train"], held_out, dropped, "train: also held out")
    if data.dedup == "exact":
        rows = _deduplicated(rows, dropped)
        examples |= {name: _deduplicated(examples[name], dropped) for name in ("val", "test") if name in examples}
    by = data.split.by
    test = examples.get("test")
    if test is None:
        rows, test = hold_out(rows, data.split.test, by=by, seed=seed)
    val = examples.get("val")
    if val is None:
        fraction = data.split.val / (1 - data.split.test) if "test" not in examples else data.split.val
        rows, val = hold_out(rows, fraction, by=by, seed=seed + 1)
    if not rows or not test:
        empty = "train on" if not rows else "test with"
        raise Invalid(f"{data.train}: no rows to {empty}", hint="more rows, or other split fractions")
    return Splits(tuple(rows), tuple(val), tuple(test), dict(dropped)), verbaliser


def example_of(row: Row, data: Data, verbaliser: Verbaliser | None) -> Example:
    """A line as a conversation; its label is read where a verbaliser is given."""
    if verbaliser is None:
        answer = Message("assistant", row.label or "")
        return Example(row.messages or (*_asked(row.text, data), answer), None, row.meta)
    given = _label(row)
    label = given if given in verbaliser.words else verbaliser.read(given)
    if label is None:
        known = ", ".join(sorted(verbaliser.words)[:20])
        raise Invalid(f"{row.where}: label {given!r} is not in data.labels", hint=f"labels are {known}")
    prompt = row.messages[:-1] or _asked(row.text, data)
    return Example((*prompt, Message("assistant", verbaliser.say(label))), label, row.meta)


def hold_out(
    rows: Sequence[Example], fraction: float, *, by: str = "group", seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """(kept, held out). Rows of one group, or with one prompt, stay together; the order of the file does not matter."""
    units = _units(rows, by)
    order = sorted(units, key=lambda unit: hashlib.sha256(f"{seed}/{min(rows[i].key for i in unit)}".encode()).digest())
    wanted = round(fraction * len(rows))
    held: set[int] = set()
    for unit in order:
        if len(held) + len(unit) <= wanted or (wanted and not held and len(unit) < len(rows)):
            held.update(unit)
    return [row for i, row in enumerate(rows) if i not in held], [rows[i] for i in sorted(held)]


def write_splits(splits: Splits, path: Path) -> None:
    """One JSONL file with every row and its split: what a retraining reads back."""
    with path.open("wb") as file:
        for name, rows in splits.items():
            for row in rows:
                messages = [_message(each) for each in row.messages]
                line = {"messages": messages, "label": row.label, "split": name, "meta": dict(row.meta)}
                file.write(msgspec.json.encode({k: v for k, v in line.items() if v not in (None, {})}) + b"\n")


def read_splits(path: Path) -> Splits:
    """The inverse of `write_splits`."""
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for row in read_rows(path):
        if row.split not in splits:
            raise Invalid(f"{row.where}: split {row.split!r} is none of {', '.join(SPLITS)}")
        splits[row.split].append(Example(row.messages, row.label, row.meta))
    return Splits(tuple(splits["train"]), tuple(splits["val"]), tuple(splits["test"]))


def fingerprint(rows: Sequence[Example]) -> str:
    """The identity of a set of rows, in any order: prompts and answers, but for case, spacing and Unicode form."""
    return hashlib.sha256("".join(sorted(row.key for row in rows)).encode()).hexdigest()


def normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _message(message: Message) -> dict[str, Any]:
    plain = {"role": message.role, "content": message.content}
    return plain if message.weight else {**plain, "weight": 0}


def _asked(text: str, data: Data) -> tuple[Message, ...]:
    system = (Message("system", data.instruction),) if data.instruction else ()
    return (*system, Message("user", text))


def _label(row: Row) -> str:
    return row.label if row.label is not None else row.messages[-1].content.strip()


def _verbaliser(data: Data, files: Mapping[str, Sequence[Row]]) -> Verbaliser:
    words = data.labels or {label: label for label in sorted({_label(row) for rows in files.values() for row in rows})}
    if len(words) < 2:
        raise Invalid(f"{data.train}: classification needs at least two labels, found {', '.join(words)}")
    return Verbaliser(words)


def _units(rows: Sequence[Example], by: str) -> list[list[int]]:
    """Row numbers that must stay together: connected through a group or through a prompt."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        ties = [("prompt", row.prompt_key)]
        if by == "group" and row.meta.get("group") is not None:
            ties.append(("group", str(row.meta["group"])))
        for tie in ties:
            parent[root(i)] = root(first.setdefault(tie, i))
    units: dict[int, list[int]] = {}
    for i in range(len(rows)):
        units.setdefault(root(i), []).append(i)
    return list(units.values())


def _without(rows: Sequence[Example], seen: set[str], dropped: Counter[str], why: str) -> list[Example]:
    kept = [row for row in rows if row.prompt_key not in seen]
    if len(kept) < len(rows):
        dropped[why] += len(rows) - len(kept)
    return kept


def _deduplicated(rows: Sequence[Example], dropped: Counter[str]) -> list[Example]:
    """The first of equal rows stays. Rows that label one prompt in two ways contradict each other: none stays."""
    unique = list({row.key: row for row in reversed(rows)}.values())[::-1]
    if len(unique) < len(rows):
        dropped["duplicate"] += len(rows) - len(unique)
    labels: dict[str, set[str | None]] = {}
    for row in unique:
        labels.setdefault(row.prompt_key, set()).add(row.label)
    kept = [row for row in unique if len(labels[row.prompt_key]) == 1]
    if len(kept) < len(unique):
        dropped["conflicting label"] += len(unique) - len(kept)
    return kept


def _mentions(said: list[str], word: str) -> bool:
    parts = "".join(char if char.isalnum() else " " for char in word).split()
    return any(said[i : i + len(parts)] == parts for i in range(len(said) - len(parts) + 1)) if parts else False


def _key(messages: Sequence[Message]) -> str:
    text = "\0".join(f"{m.role}\1{normalise(m.content)}" for m in messages)
    return hashlib.sha256(text.encode()).hexdigest()

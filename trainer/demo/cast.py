"""Who plays in the demo: three adapters with plainly different jobs, their specs as a user writes them, their text.

Knows rows and specs; trains nothing and serves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from trainer.demo import corpora
from trainer.demo.corpora import TOPICS, Row, take, write_jsonl
from trainer.demo.traffic import Messages, Question

TOPIC, SUMMARY, MONEY = "bbc-topic", "news-summary", "money-help"

INSTRUCTION = "Name the topic of the text in one word: " + ", ".join(TOPICS) + "."

SPEC = """\
[job]
name = "{name}"
seed = {seed}
task = "{task}"

[data]
train = "{name}.train.jsonl"
val = "{name}.val.jsonl"
test = "{name}.test.jsonl"

[method]
r = 16
alpha = 32

[train]
lr = {lr}
steps = {steps}
tokens_per_step = 512
early_stop = {{ metric = "val/loss", patience = 3, every = {every}, rows = 16 }}

[gates]
{gate}

[publish]
alias = "{alias}"

[monitor]
capture = {capture}
retrain = "auto"
min_examples = 80
"""

CLASSIFY = {
    "task": "classify",
    "lr": 1e-3,
    "steps": 36,
    "every": 18,
    "gate": '"test/accuracy" = { min = 0.75, vs = "base", min_gain = 0.3 }',
    "capture": "true",
}
WRITE = {
    "task": "sft",
    "lr": 5e-4,
    "steps": 14,
    "every": 7,
    "gate": '"test/nll" = { vs = "base", max_drop = 0.0 }',
    "capture": "false",
}


@dataclass(frozen=True)
class Player:
    """One adapter of the demo. `live` is text it was tuned for but never saw."""

    name: str
    spec: Path
    live: tuple[Row, ...]
    max_tokens: int

    def questions(self, prefix: str) -> Iterator[Question]:
        """Normal traffic without end, each question a session of its own."""
        for number, row in enumerate(cycle(self.live)):
            yield Question(self.name, ask(self.name, row), f"{prefix}-{self.name}-{number}", self.max_tokens)


def cast(directory: Path) -> dict[str, Player]:
    """Write every player's data and spec below `directory`."""
    topics, summaries, money = map(iter, (corpora.news_topics(), corpora.summaries(), corpora.money_questions()))
    return {
        TOPIC: _player(directory, TOPIC, topics, (480, 32, 160), spec=CLASSIFY, max_tokens=6),
        SUMMARY: _player(directory, SUMMARY, summaries, (240, 16, 32), spec=WRITE, max_tokens=12),
        MONEY: _player(directory, MONEY, money, (240, 16, 32), spec=WRITE, max_tokens=12),
    }


def second_edition(directory: Path, player: Player) -> Player:
    """The same job and data with another seed, published beside `prod`, not as `prod`."""
    text = player.spec.read_text(encoding="utf-8")
    path = directory / f"{player.name}.second.toml"
    path.write_text(
        text.replace("seed = 0", "seed = 1")
        .replace("steps = 14", "steps = 5")
        .replace('alias = "prod"', 'alias = "staging"'),
        encoding="utf-8",
    )
    return replace(player, spec=path)


def ask(name: str, row: Row) -> Messages:
    """The messages an app sends for a row: the same words the adapter was tuned on."""
    content = f"{row['text']}\n\n{INSTRUCTION}" if name == TOPIC else row["prompt"]
    return [{"role": "user", "content": content}]


def lesson(name: str, row: Row) -> dict[str, Messages]:
    """A row as a line of a training file: what an app would send, and the answer to give."""
    answer = row["label"] if name == TOPIC else row["completion"]
    return {"messages": [*ask(name, row), {"role": "assistant", "content": answer}]}


def _player(
    directory: Path,
    name: str,
    rows: Iterator[Row],
    sizes: tuple[int, int, int],
    *,
    spec: Mapping[str, object],
    max_tokens: int,
) -> Player:
    for split, count in zip(("train", "val", "test"), sizes, strict=True):
        write_jsonl(directory / f"{name}.{split}.jsonl", [lesson(name, row) for row in take(rows, count)])
    path = directory / f"{name}.toml"
    path.write_text(SPEC.format(name=name, seed=0, alias="prod", **spec), encoding="utf-8")
    return Player(name, path, tuple(take(rows, 160)), max_tokens)

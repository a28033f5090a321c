"""Measure models on held-out rows through the serving engine: candidate, parent and base as rows of the same batches.

What is evaluated is what is served: the same template, the same kernels, the same file. Knows no training and no gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from registry.errors import LorimerError, Unavailable
from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.request import Completion, Request, Sampling
from trainer.dataset import Example, Verbaliser
from trainer.evidence import Measurements, Metric
from trainer.metrics import classification, likelihood
from trainer.rendering import render_prompt, render_row

Roles = Mapping[str, LoadedAdapter | None]
"""Role -> adapter; None is the bare base."""
SLACK_TOKENS = 3
"""A label may be wrapped in a word or two: the base's answers deserve to be read fairly."""


class Runner(Protocol):
    """The part of the serving engine that evaluation uses."""

    def run(
        self, requests: Sequence[Request], progress: Callable[[int, int], None] | None = None
    ) -> list[Completion]: ...


class Evaluator:
    """Asks every model the same questions. Sets are measured one after another, roles side by side."""

    def __init__(
        self,
        base: Base,
        engine: Runner,
        verbaliser: Verbaliser | None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._base = base
        self._engine = engine
        self._verbaliser = verbaliser
        self._progress = progress

    def measure(self, sets: Mapping[str, Sequence[Example]], roles: Roles) -> Measurements:
        """`sets` name held-out rows; the metrics of set `test` are called `test/...`."""
        found: dict[str, dict[str, Metric]] = {role: {} for role in roles}
        for name, examples in sets.items():
            for role, metrics in self._measure_set(examples, roles).items():
                found[role] |= {f"{name}/{metric}": value for metric, value in metrics.items()}
        return Measurements(candidate=found["candidate"], base=found.get("base"), parent=found.get("parent"))

    def _measure_set(self, examples: Sequence[Example], roles: Roles) -> dict[str, dict[str, Metric]]:
        ask = self._question if self._verbaliser is not None else self._scored
        questions = [ask(example) for example in examples]
        requests = [
            Request(f"eval-{i}-{role}", prompt, sampling, adapter, score_from=score_from)
            for i, (prompt, sampling, score_from) in enumerate(questions)
            for role, adapter in roles.items()
        ]
        completions = iter(answered(self._engine.run(requests, self._progress)))
        by_role: dict[str, list[Completion]] = {role: [] for role in roles}
        for _ in questions:
            for role in roles:
                by_role[role].append(next(completions))
        return {role: self._metrics(examples, rows) for role, rows in by_role.items()}

    def _metrics(self, examples: Sequence[Example], completions: Sequence[Completion]) -> dict[str, Metric]:
        if self._verbaliser is None:
            return likelihood([row.prompt_logprobs or () for row in completions])
        found = [self._verbaliser.read(row.text) for row in completions]
        return classification([example.label or "" for example in examples], found)

    def _question(self, example: Example) -> tuple[tuple[int, ...], Sampling, int | None]:
        """Generate the label, greedily."""
        assert self._verbaliser is not None
        longest = max(len(self._base.tokenizer.encode(word)) for word in self._verbaliser.words.values())
        sampling = Sampling(max_tokens=longest + SLACK_TOKENS, temperature=0.0)
        return tuple(render_prompt(self._base, example.prompt)), sampling, None

    def _scored(self, example: Example) -> tuple[tuple[int, ...], Sampling, int | None]:
        """Score the last answer's tokens as they stand."""
        row = render_row(self._base, example)
        start = len(render_prompt(self._base, example.prompt))
        return row.tokens[: row.supervised[-1] + 1], Sampling(max_tokens=0, temperature=0.0), start


def answered(completions: Sequence[Completion]) -> Sequence[Completion]:
    """All of them, or the first error: a measurement with holes is none."""
    for completion in completions:
        if completion.error is not None:
            raise completion.error if isinstance(completion.error, LorimerError) else Unavailable(str(completion.error))
    return completions

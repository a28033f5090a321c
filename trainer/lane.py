"""A lane: one adapter being trained. Its parameters, optimiser, schedule, data cursor, generators and early stopper.

Knows no registry, no file and no clock; whoever drives it saves `state()` and may continue from it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedModel

from registry.errors import Corrupt
from trainer.forward import Trainee, make_batch
from trainer.parameters import AdamW, FlatParameters, learning_rate
from trainer.plan import micro_batches, plan
from trainer.rendering import TokenRow
from trainer.spec import Method, Train


@dataclass(frozen=True)
class StepReport:
    """`loss` is per supervised token; `val_loss` is set on the steps that validate."""

    step: int
    total: int
    loss: float
    lr: float
    gradient_norm: float
    tokens: int
    val_loss: float | None = None


class Progress(msgspec.Struct):
    """The numbers of a lane's state; the vectors travel beside them."""

    steps: int = 0
    tokens: int = 0
    losses: list[float] = []
    validations: dict[str, float] = {}
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0
    stopped: bool = False


class Lane:
    """Train one adapter on token rows. `start` names tensors to begin from; default is PEFT's initialisation."""

    def __init__(
        self,
        tree: PreTrainedModel,
        method: Method,
        train: Train,
        rows: Sequence[TokenRow],
        val_rows: Sequence[TokenRow],
        *,
        seed: int = 0,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._train = train
        self._rows = rows
        self._lengths = [len(row) for row in rows]
        self._val_rows = val_rows[: train.early_stop.rows] if train.early_stop else ()
        self._plan = plan(self._lengths, train, seed)
        self._device = tree.device
        self.trainee = Trainee(tree, method, seed=seed)
        self.parameters = FlatParameters(self.trainee.parameters)
        if start is not None:
            self.parameters.set_named(start)
        self.optimiser = AdamW(self.parameters, train)
        self.best = self.parameters.master.clone()
        self.progress = Progress()

    @property
    def total_steps(self) -> int:
        return len(self._plan)

    @property
    def finished(self) -> bool:
        return self.progress.stopped or self.progress.steps >= self.total_steps

    def step(self) -> StepReport:
        """One optimiser step on the next rows; validates and looks at the early stopper when it is time."""
        rows = self._plan[self.progress.steps]
        lr = learning_rate(self._train, self.progress.steps, self.total_steps)
        supervised = sum(len(self._rows[row].supervised) for row in rows)
        gradient: Tensor | None = None
        loss = 0.0
        for members in micro_batches(rows, self._lengths):
            batch = make_batch([self._rows[row] for row in members], self._device)
            total = self.trainee.loss(batch, train=True)
            (total / supervised).backward()  # type: ignore[no-untyped-call]
            taken = self.parameters.take_gradients()
            gradient = taken if gradient is None else gradient.add_(taken)
            loss += float(total.detach()) / supervised
        assert gradient is not None, "a step has at least one row"
        norm = self.optimiser.step(gradient, lr)
        return self._advance(rows, loss, lr, norm)

    def _advance(self, rows: Sequence[int], loss: float, lr: float, norm: float) -> StepReport:
        state = self.progress
        tokens = sum(self._lengths[row] for row in rows)
        state.steps += 1
        state.tokens += tokens
        state.losses.append(loss)
        val_loss = self._look() if self._time_to_validate() else None
        return StepReport(state.steps, self.total_steps, loss, lr, norm, tokens, val_loss)

    def validate(self) -> float:
        """Loss per supervised token on the validation rows, without dropout."""
        lengths = [len(row) for row in self._val_rows]
        total = 0.0
        with torch.no_grad():
            for members in micro_batches(range(len(lengths)), lengths):
                batch = make_batch([self._val_rows[row] for row in members], self._device)
                total += float(self.trainee.loss(batch, train=False))
        return total / sum(len(row.supervised) for row in self._val_rows)

    def learned(self) -> dict[str, Tensor]:
        """The best parameters seen, float32, under the modules' names; the last ones where nothing validates."""
        return self.parameters.named(self.best if self._val_rows else None)

    def _time_to_validate(self) -> bool:
        stop = self._train.early_stop
        return bool(self._val_rows and stop and (self.progress.steps % stop.every == 0 or self._at_end()))

    def _at_end(self) -> bool:
        return self.progress.steps == self.total_steps

    def _look(self) -> float:
        """Validate, keep what is best, and stop when patience is over."""
        assert self._train.early_stop is not None
        state = self.progress
        loss = self.validate()
        state.validations[str(state.steps)] = loss
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.best_step, state.worse = loss, state.steps, 0
            self.best.copy_(self.parameters.master)
        else:
            state.worse += 1
            state.stopped = state.worse >= self._train.early_stop.patience
        return loss

    def state(self) -> tuple[dict[str, Tensor], bytes]:
        """Everything needed to go on exactly: vectors, and numbers as JSON."""
        vectors = {
            "master": self.parameters.master,
            "mean": self.optimiser.mean,
            "square": self.optimiser.square,
            "best": self.best,
            "generator": self.trainee.generator.get_state(),
        }
        return vectors, msgspec.json.encode(self.progress)

    def restore(self, vectors: Mapping[str, Tensor], numbers: bytes) -> None:
        if vectors["master"].shape != self.parameters.master.shape:
            raise Corrupt("the checkpoint is of another adapter shape", hint="remove the run's directory")
        self.parameters.set(vectors["master"])
        self.best.copy_(vectors["best"])
        self.trainee.generator.set_state(vectors["generator"])
        self.progress = msgspec.json.decode(numbers, type=Progress)
        self.optimiser.resume(self.progress.steps, vectors["mean"], vectors["square"])

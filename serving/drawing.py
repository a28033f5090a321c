"""The next tokens of all rows that are ready for one, and whose draw failed. Knows no scheduler and no model."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from serving.answer import Answer
from serving.blame import Fault, failure
from serving.sampler import Choice, Draw, choose

logger = logging.getLogger("lorimer.engine")


def sample(ready: Sequence[tuple[Answer, Tensor]], faults: list[Fault]) -> tuple[list[Answer], list[Choice | None]]:
    """One token for every row; None for a row whose numbers are no numbers."""
    answers, logits, draws = [], [], []
    for answer, row in ready:
        try:
            draws.append(answer.draw())
        except Exception as error:  # noqa: BLE001 - a grammar's fault is its own row's
            faults.append(Fault(answer, failure(answer, error), by_adapter=False))
            continue
        answers.append(answer)
        logits.append(row)
    try:
        return answers, choose(logits, draws)
    except Exception:
        logger.exception("choosing %d tokens failed; trying them one by one", len(draws))
    return _alone(answers, logits, draws, faults)


def _alone(
    answers: Sequence[Answer], logits: Sequence[Tensor], draws: Sequence[Draw], faults: list[Fault]
) -> tuple[list[Answer], list[Choice | None]]:
    sound, choices = [], []
    for answer, row, draw in zip(answers, logits, draws, strict=True):
        try:
            choices += choose([row], [draw])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's alone
            faults.append(Fault(answer, failure(answer, error), by_adapter=False))
            continue
        sound.append(answer)
    return sound, choices

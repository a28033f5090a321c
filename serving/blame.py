"""One step's forward pass, and who is to blame when it fails. Knows no scheduler and no sampling.

If the pass over all chunks raises, each chunk is computed alone; those that raise again are to blame. The others are
then computed once more, together: every position that the failed pass may have written is written anew, and the mates
of a failing row get the numbers of the batch without it, bit for bit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from registry.errors import Corrupt, LorimerError, Unavailable
from serving.answer import Answer
from serving.forward import Forward, Output
from serving.scheduler import Chunk

logger = logging.getLogger("lorimer.engine")


@dataclass(frozen=True, eq=False)
class Fault:
    """A row that must end, and why."""

    answer: Answer
    error: LorimerError
    by_adapter: bool = True
    """False: what failed was outside the model, such as a listener."""


def compute(forward: Forward, chunks: Sequence[Chunk]) -> tuple[list[Output], list[Fault]]:
    """What could be computed, and the rows that failed."""
    try:
        return [_pass(forward, chunks)], []
    except Exception:
        logger.exception("a step of %d rows failed; trying its rows one by one", len(chunks))
    alone: dict[Chunk, Output] = {}
    faults = []
    for chunk in chunks:
        try:
            alone[chunk] = _pass(forward, [chunk])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's alone
            faults.append(Fault(answer_of(chunk), failure(answer_of(chunk), error)))
    if faults and len(alone) > 1:
        try:
            return [_pass(forward, list(alone))], faults
        except Exception:
            logger.exception("%d rows that are sound alone fail together", len(alone))
    return list(alone.values()), faults


def answer_of(chunk: Chunk) -> Answer:
    assert isinstance(chunk.row, Answer)
    return chunk.row


def failure(answer: Answer, error: Exception) -> LorimerError:
    """An error that names whose it is."""
    return error if isinstance(error, LorimerError) else Unavailable(f"{_blamed(answer)} failed: {error}")


def not_finite(answer: Answer) -> Fault:
    return Fault(answer, Corrupt(f"{_blamed(answer)} gave numbers that are not finite"))


def _pass(forward: Forward, chunks: Sequence[Chunk]) -> Output:
    answers = [answer_of(chunk) for chunk in chunks]
    froms = [answer.logits_from(chunk) for answer, chunk in zip(answers, chunks, strict=True)]
    return forward(chunks, [answer.request.adapter for answer in answers], froms)


def _blamed(answer: Answer) -> str:
    adapter = answer.request.adapter
    return f"adapter {adapter.name} ({adapter.digest[:19]})" if adapter else "the base"

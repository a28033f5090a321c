"""On how much, how long and how fast a fine-tuning job trains: what was asked, else what suits the rows. Pure.

Without a word on epochs there are enough of them for a small file to be learned, and no more than a large one needs:

    rows    a few            some hundreds         many
    epochs  MAX_EPOCHS ....  the trainer's own ..  1
    steps   < FEWEST_STEPS   in between            one pass, whatever that takes
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import msgspec

from registry.tuning import TuneJob
from trainer.retrain import LR_SCALE
from trainer.spec import Split, Train

FEWEST_STEPS, MOST_STEPS = 40, 300
MAX_EPOCHS = 25
MIN_TOKENS_PER_STEP = 16
MOST_HELD_OUT = 500
"""Rows to validate with, and to test with: more would say little more, and cost time and rows to learn from."""


def split_of(num_rows: int) -> Split:
    share = min(Split().test, MOST_HELD_OUT / num_rows)
    return Split(val=share, test=share)


def train_of(asked: TuneJob, lengths: Sequence[int], share: float, *, max_len: int, is_warm: bool) -> Train:
    """`lengths` are the tokens of the file's rows, of which `share` is trained on."""
    default = Train()
    tokens_per_step = default.tokens_per_step
    if asked.batch_size is not None:
        tokens_per_step = max(MIN_TOKENS_PER_STEP, round(asked.batch_size * median(lengths)))
    scale = asked.learning_rate_multiplier
    if scale is None:
        scale = LR_SCALE if is_warm else 1.0
    steps_per_epoch = math.ceil(sum(lengths) * share / tokens_per_step)
    return msgspec.structs.replace(
        default,
        lr=default.lr * scale,
        epochs=asked.epochs or _epochs(steps_per_epoch),
        tokens_per_step=tokens_per_step,
        max_len=max_len,
    )


def _epochs(steps_per_epoch: int) -> int:
    at_least, at_most = math.ceil(FEWEST_STEPS / steps_per_epoch), max(1, MOST_STEPS // steps_per_epoch)
    return min(max(Train().epochs, at_least), at_most, MAX_EPOCHS)

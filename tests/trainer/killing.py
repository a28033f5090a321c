"""Trains a lane in child processes that are killed at random moments, and once undisturbed; prints both ends as JSON.

Run as a script, so that the children are forked from a process without threads and torch is imported once.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from registry.settings import Settings
from serving.base import load_base
from trainer.checkpoint import Checkpoints
from trainer.dataset import Example
from trainer.lane import Lane
from trainer.rendering import render_rows
from trainer.rows import Message
from trainer.spec import EarlyStop, Method, Train


def train(base: Any, directory: Path, announce: int) -> None:
    """Go on from whatever is there; write a byte per step, and the end's fingerprint when done."""
    examples = [
        Example((Message("user", f"n {i}"), Message("assistant", "odd" if i % 2 else "even"))) for i in range(60)
    ]
    rows = render_rows(base, examples, 200).rows
    options = Train(lr=1e-2, tokens_per_step=100, early_stop=EarlyStop(every=4, patience=50))
    lane = Lane(base.module_tree(), Method(r=4, alpha=8, dropout=0.1), options, rows[:50], rows[50:])
    checkpoints = Checkpoints(directory / "checkpoints")
    if (newest := checkpoints.newest()) is not None:
        lane.restore(newest.tensors, newest.numbers)
    while not lane.finished:
        told = lane.step()
        if told.step % 3 == 0 or lane.finished:
            checkpoints.save(told.step, *lane.state())
        os.write(announce, b".")
    weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in lane.learned().values())).hexdigest()
    end = {"losses": lane.progress.losses, "validations": lane.progress.validations, "weights": weights}
    (directory / "end.json").write_text(json.dumps(end))


def in_child(base: Any, directory: Path, steps: int | None) -> bool:
    """Train in a child; kill it once it has announced `steps` steps and a moment more. Whether it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        train(base, directory, writing)
        os._exit(0)
    os.close(writing)
    seen = 0
    while (steps is None or seen < steps) and (data := os.read(reading, 1)):
        seen += len(data)
    if steps is not None:
        time.sleep(random.random() * 0.02)
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(base_dir: str, scratch: str) -> None:
    torch.set_num_threads(1)
    base = load_base(Settings(base=base_dir, dtype="float32", cache_dir=scratch, threads=1))
    ends, kills = [], 0
    for name in ("whole", "killed"):
        directory = Path(scratch) / name
        directory.mkdir()
        if name == "killed":
            kills = sum(
                in_child(base, directory, steps) for steps in (1, random.randint(2, 6), 5, random.randint(4, 9))
            )
        in_child(base, directory, None)
        ends.append(json.loads((directory / "end.json").read_text()))
    sys.stdout.write(json.dumps({"whole": ends[0], "killed": ends[1], "kills": kills}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

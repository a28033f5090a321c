"""One process of the race: a client that goes on until it is told to stop, or killed. Its journal outlives it."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from registry import catalog_compaction
from registry.adapters import Registry
from registry.store import open_store
from tests.registry.clients import Client
from tests.registry.linear import Call

ADAPTERS = ("x", "y", "z")
OVERDUE_S = 5.0


@dataclass(frozen=True)
class Place:
    """Where everybody meets."""

    url: str
    endpoint: str | None
    work: Path

    def open(self, actor: str) -> Registry:
        return Registry(open_store(self.url, s3_endpoint=self.endpoint), actor=actor)

    def folders(self) -> Sequence[Path]:
        return sorted((self.work / "adapters").iterdir())

    def journals(self) -> Sequence[Path]:
        return sorted((self.work / "journals").iterdir())


def live(place: Place, role: str, name: str, seed: int) -> NoReturn:
    """The life of a forked child; it never returns into its parent's code."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    catalog_compaction.LINGER_S, catalog_compaction.OVERDUE_S = 0.0, OVERDUE_S
    try:
        journal = os.open(place.work / "journals" / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        client = Client(
            name=name,
            registry=place.open(name),
            rng=random.Random(seed),
            now=time.monotonic,
            record=lambda call: _write(journal, call),
            folders=place.folders(),
            adapters=ADAPTERS,
        )
        while not stopped:
            client.step(role)
    except BaseException:  # noqa: BLE001 nothing may escape into the parent's code
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def read_calls(place: Place) -> list[Call]:
    """What all who ever lived wrote down: a call's return, or its beginning. A last word cut short is silence."""
    calls: dict[str, Call] = {}
    for journal in place.journals():
        for line in journal.read_bytes().split(b"\n")[:-1]:
            call = msgspec.json.decode(line, type=Call)
            calls[call.id] = call
    return [*calls.values()]


def _write(journal: int, call: Call) -> None:
    os.write(journal, msgspec.json.encode(call) + b"\n")

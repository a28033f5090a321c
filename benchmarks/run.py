"""One run: limits of the machine, our engine, every peer in turn with it, our engine again, and our own system."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import cases, machine
from benchmarks.contender import Contender, Fact, run_in_turn, run_script
from benchmarks.materials import Materials
from benchmarks.peers.roster import PEERS, Peer, Task
from benchmarks.progress import Progress
from benchmarks.results import AGAIN, OURS, Results, beside
from registry.errors import LorimerError

SCRIPTS = {"many": "benchmarks.many", "cold": "benchmarks.cold", "http": "benchmarks.streaming"}
LIMIT_S = 480.0
IN_TURN_LIMIT_S = 900.0


@dataclass(frozen=True)
class Extent:
    """How long everything may take. A case is measured for `rounds` rounds, or until `budget_s` is used up."""

    rounds: int
    budget_s: float
    answer: int


FULL = Extent(rounds=5, budget_s=15.0, answer=64)
QUICK = Extent(rounds=1, budget_s=2.0, answer=16)


class Run:
    """What was chosen, and what has been found so far; written to disk after every part."""

    def __init__(
        self, materials: Materials, groups: Sequence[str], peers: Sequence[Peer], *, quick: bool, progress: Progress
    ) -> None:
        self.materials = materials
        self.peers = peers
        self.path = materials.work / "last.json"
        self.results = Results(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=machine.describe(),
            base=materials.config,
            groups=list(groups),
            peers=[peer.name for peer in peers],
            quick=quick,
            load_before=machine.load_average(),
            versions=machine.versions() | {peer.name: peer.version for peer in peers if peer.version},
        )
        self._extent = QUICK if quick else FULL
        self._cases = cases.choose(groups)
        self._progress = progress
        self._started = time.monotonic()

    def everything(self) -> Results:
        """Peers are made ready before anything is timed. A part that fails is noted, and the next begins."""
        commands = self._ready_peers() if self._cases else {}
        if self._cases:
            self._script("roofline", self._module("benchmarks.roofline"))
            self._script(OURS, self._module("benchmarks.ours"))
            for name, command in commands.items():
                self._in_turn(name, command)
            if commands:
                self._script(AGAIN, self._module("benchmarks.ours"))
        for group in self.results.groups:
            if group in SCRIPTS:
                self._script(group, self._module(SCRIPTS[group]))
        return self.results

    def _ready_peers(self) -> dict[str, list[str]]:
        materials, commands = self.materials, {}
        task = Task(self._plan(), materials.base, materials.adapters, materials.work)
        for peer in self.peers:
            try:
                commands[peer.name] = peer.command(task, self._progress.say)
            except LorimerError as error:
                self._fail(peer.name, error)
        return commands

    def _module(self, name: str) -> list[str]:
        return [sys.executable, "-m", name, str(self._plan())]

    def _script(self, name: str, command: Sequence[str]) -> None:
        with self._part(name):
            run_script(command, self._log(name), LIMIT_S, self._listener(name))

    def _in_turn(self, peer: str, command: Sequence[str]) -> None:
        name = beside(peer)
        own = Contender([*self._module("benchmarks.ours"), "beside"], self._log(name), IN_TURN_LIMIT_S)
        with self._part(peer), own:
            other = Contender(command, self._log(peer), IN_TURN_LIMIT_S)
            run_in_turn(own, other, self._listener(name), self._listener(peer))

    def _log(self, name: str) -> Path:
        return self.materials.work / "logs" / f"{name.replace(' ', '-')}.log"

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        with self._progress.part(name):
            try:
                yield
            except LorimerError as error:
                self._fail(name, error)
        self.results.load_after = machine.load_average()
        self.results.seconds = time.monotonic() - self._started
        self.results.write(self.path)

    def _listener(self, name: str) -> Callable[[Fact], None]:
        def hear(fact: Fact) -> None:
            if "about" in fact:
                self._about(name, fact["about"])
            elif "measure" in fact:
                self._measured(name, fact["measure"])
            elif "rate" in fact:
                self.results.add(name, fact["case"], fact["rate"])
                self._progress.step(f"{fact['case']}: {fact['rate']:,.0f} tokens/s by {name}")
            elif "error" in fact:
                self.results.failures[f"{name}: {fact['case']}"] = fact["error"]
                self._progress.say(f"{name}: {fact['case']}: {fact['error']}")
            else:
                self._progress.step(str(fact.get("note", fact.get("case", ""))))

        return hear

    def _about(self, name: str, about: dict[str, str]) -> None:
        if "version" in about:
            self.results.versions[name] = about["version"]
        if name in (OURS, *self.results.peers):
            self.results.settings[name] = about["settings"]

    def _measured(self, name: str, measure: dict[str, float]) -> None:
        if name == "roofline":
            self.results.limits = measure
        else:
            self.results.measures[name] = measure

    def _fail(self, name: str, error: LorimerError) -> None:
        self.results.failures[name] = str(error)
        self._progress.say(f"{name}: {error}")

    def _plan(self) -> Path:
        """The file that tells every script what to do; the same one for all."""
        materials, extent, path = self.materials, self._extent, self.materials.work / "plan.json"
        wanted = [replace(case, answer=min(case.answer, extent.answer)) for case in self._cases]
        told: dict[str, Any] = cases.plan(
            wanted,
            base=materials.base,
            adapters=materials.adapters,
            vocab_size=materials.config["vocab_size"],
            threads=materials.threads,
            rounds=extent.rounds,
            budget_s=extent.budget_s,
        )
        told |= {"work": str(materials.work), "quick": self.results.quick}
        path.write_text(json.dumps(told), encoding="utf-8")
        return path


def chosen_peers(names: Sequence[str]) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in names]

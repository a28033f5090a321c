"""What a run found, as it is written to disk: numbers only, no judgement."""

from __future__ import annotations

import operator
import statistics
from pathlib import Path
from typing import Any

import msgspec

from registry.errors import Corrupt, NotFound

OURS = "lorimer"
AGAIN = "lorimer again"
"""The second pass alone, after the peers."""
FOLDER = Path(__file__).parent / "results"
LATEST = FOLDER / "latest.json"


class Results(msgspec.Struct, kw_only=True):
    """`rates[contender][case]` are tokens per second, one number per round."""

    date: str
    machine: dict[str, Any]
    base: dict[str, Any]
    """The base's config.json: what the roofline is computed from."""
    groups: list[str]
    peers: list[str]
    quick: bool
    load_before: tuple[float, float, float]
    load_after: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seconds: float = 0.0
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    rates: dict[str, dict[str, list[float]]] = msgspec.field(default_factory=dict)
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """Contender, or 'contender: case' -> why there is no number."""
    limits: dict[str, float] = msgspec.field(default_factory=dict)
    """Bytes and bf16 operations per second, as measured in this run."""
    measures: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)
    """Group -> what its own script found."""

    def add(self, contender: str, case: str, rate: float) -> None:
        self.rates.setdefault(contender, {}).setdefault(case, []).append(rate)

    def rate(self, contender: str, case: str) -> float | None:
        """The median of all rounds."""
        passes = [OURS, AGAIN, *map(beside, self.peers)] if contender == OURS else [contender]
        rounds = [rate for name in passes for rate in self.rates.get(name, {}).get(case, [])]
        return statistics.median(rounds) if rounds else None

    def ratio(self, peer: str, case: str) -> float | None:
        """How many times as fast as a peer we are: the median over its rounds, each against ours just before it."""
        ours, theirs = (self.rates.get(name, {}).get(case, []) for name in (beside(peer), peer))
        return statistics.median(map(operator.truediv, ours, theirs)) if ours and theirs else None

    def share(self, case: str, own: str) -> float | None:
        """How much of our rate in one case is left in another: the median of rounds' ratios, in the worse pass alone.

        Round by round, since the rounds of all cases are run in turn: what slows the machine slows both.
        """
        passes = [self.rates.get(name, {}) for name in (OURS, AGAIN)]
        ratios = [[a / b for a, b in zip(rates.get(case, []), rates.get(own, []), strict=False)] for rates in passes]
        return min((statistics.median(rounds) for rounds in ratios if rounds), default=None)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        path.write_bytes(text + b"\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError as error:
            raise NotFound(f"there are no results in {path}", hint="run python -m benchmarks first") from error
        except msgspec.DecodeError as error:
            raise Corrupt(f"{path} does not hold results: {error}", hint="run python -m benchmarks again") from error


def beside(peer: str) -> str:
    """What our rounds in turn with a peer's are called."""
    return f"{OURS} beside {peer}"

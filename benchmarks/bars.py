"""What must be shown, and whether it was. Knows the numbers only through the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks import cases
from benchmarks.peers.roster import PEERS
from benchmarks.results import Results

Verdict = Literal["pass", "FAIL", "not measured"]


@dataclass(frozen=True)
class Bar:
    """A number and its limit. `group` is the choice of cases that measures it; `line` is what it is shown beside."""

    group: str
    line: str
    what: str
    limit: float
    value: Callable[[Results], float | None]
    unit: Literal["x", "%", "ms", "share"] = "x"
    at_most: bool = False

    def judge(self, results: Results) -> Judgement:
        value = self.value(results)
        if value is None:
            return Judgement(self, None, "not measured")
        met = value <= self.limit if self.at_most else value >= self.limit
        return Judgement(self, value, "pass" if met else "FAIL")

    def show(self, value: float) -> str:
        shown = {"x": f"{value:.2f}x", "%": f"{value:.1%}", "ms": f"{value:.0f} ms", "share": f"{value:.2f}"}
        return shown[self.unit]

    @property
    def bound(self) -> str:
        """`>= 4x vLLM-CPU` and the like."""
        limit = self.show(self.limit).replace(".00", "").replace(".0%", "%")
        return f"{'<=' if self.at_most else '>='} {limit}{' ' if self.what else ''}{self.what}"


@dataclass(frozen=True)
class Judgement:
    bar: Bar
    value: float | None
    verdict: Verdict

    @property
    def found(self) -> str:
        return "-" if self.value is None else self.bar.show(self.value)


def against(peer: str, case: str) -> Callable[[Results], float | None]:
    """Of rounds in turn."""
    return lambda results: results.ratio(peer, case)


def against_best(case: str) -> Callable[[Results], float | None]:
    """Of the peers with our precision that were asked for: without all of them there is no best."""

    def value(results: Results) -> float | None:
        ratios = [results.ratio(peer, case) for peer in results.peers if peer in JUDGED]
        found = [ratio for ratio in ratios if ratio is not None]
        return min(found) if found and len(found) == len(ratios) else None

    return value


def against_own(case: str, own: str) -> Callable[[Results], float | None]:
    """Of rates that were measured side by side."""
    return lambda results: results.share(case, own)


def measure(group: str, key: str) -> Callable[[Results], float | None]:
    return lambda results: results.measures.get(group, {}).get(key)


def budget_used(results: Results) -> float | None:
    found = results.measures.get("many", {})
    return _ratio(found.get("peak_bytes"), found.get("byte_budget"))


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _best(group: str, case: str, limit: float) -> Bar:
    return Bar(group, case, "the best peer", limit, against_best(case))


JUDGED = {peer.name for peer in PEERS if peer.judged}
DISTINCT = cases.DECODE_16.name
BARS = (
    Bar("decode", DISTINCT, "llama.cpp", 4, against("llama", DISTINCT)),
    Bar("decode", DISTINCT, "vLLM-CPU", 4, against("vllm", DISTINCT)),
    Bar("decode", DISTINCT, "PEFT", 8, against("peft", DISTINCT)),
    _best("decode", cases.DECODE_4.name, 1),
    _best("decode", cases.DECODE_1.name, 1),
    _best("decode", cases.DECODE_NONE.name, 1),
    _best("single", cases.SINGLE_NONE.name, 0.6),
    _best("single", cases.SINGLE_1.name, 0.6),
    _best("prefill", cases.PREFILL_16.name, 1.3),
    _best("prefill", cases.PREFILL_NONE.name, 1),
    Bar(
        "decode",
        "decode, 16 adapters against the own base",
        "",
        0.75,
        against_own(DISTINCT, cases.DECODE_NONE.name),
        "share",
    ),
    Bar(
        "prefill",
        "prefill, 16 adapters against the own base",
        "",
        0.85,
        against_own(cases.PREFILL_16.name, cases.PREFILL_NONE.name),
        "share",
    ),
    Bar("many", "2,000 adapters against 5: throughput lost", "", 0.06, measure("many", "lost"), "%", at_most=True),
    Bar("many", "2,000 adapters: share of the byte budget", "", 1, budget_used, "share", at_most=True),
    Bar("cold", "cold adapter: added to the first token", "", 60, measure("cold", "added_ms"), "ms", at_most=True),
    Bar("cold", "p99 between tokens during loads", "quiet", 1.5, measure("cold", "p99_ratio"), at_most=True),
    Bar("http", "streaming through the gateway: lost", "", 0.10, measure("http", "lost"), "%", at_most=True),
)


def judge(results: Results) -> list[Judgement]:
    """Every bar that the chosen groups should have measured."""
    return [bar.judge(results) for bar in BARS if bar.group in results.groups]

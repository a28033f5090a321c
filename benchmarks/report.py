"""A run's results for people: a table for the terminal, and the section of README.md that is written from it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from benchmarks.bars import Judgement, judge
from benchmarks.pages import put_between
from benchmarks.peers.roster import PEERS
from benchmarks.results import OURS, Results
from benchmarks.roofline import Shape, load_of
from serving.bench import CASES, Case

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results: written by `python -m benchmarks report` -->", "<!-- end of results -->"
TITLES = {OURS: "Lorimer"} | {peer.name: peer.title for peer in PEERS}

Rows = list[list[str]]


def speeds(results: Results) -> tuple[list[str], Rows]:
    """Tokens per second of every contender, the bars of each case, and how near the roof we are."""
    contenders = [OURS, *results.peers]
    judgements = judge(results)
    header = ["tokens/s", *(TITLES[name] for name in contenders), "bars", "", "roof", "reached"]
    rows = []
    for case in CASES:
        rates = [results.rate(name, case.name) for name in contenders]
        if any(rate is not None for rate in rates):
            mine = [judgement for judgement in judgements if judgement.bar.line == case.name]
            found = "; ".join(f"{judgement.found} ({judgement.bar.bound})" for judgement in mine)
            rows.append([case.name, *map(_number, rates), found, verdict(mine), *_roof(results, case)])
    return header, rows


def others(results: Results) -> tuple[list[str], Rows]:
    """The bars that are not about one case's speed."""
    lines = {case.name for case in CASES}
    rest = [judgement for judgement in judge(results) if judgement.bar.line not in lines]
    rows = [[each.bar.line, each.found, each.bar.bound, each.verdict] for each in rest]
    return ["", "measured", "bar", ""], rows


def verdict(judgements: list[Judgement]) -> str:
    """The worst of them."""
    verdicts = {judgement.verdict for judgement in judgements}
    return next((each for each in ("FAIL", "not measured", "pass") if each in verdicts), "")


def details(results: Results) -> list[str]:
    """What the numbers depend on, a line each."""
    machine, limits = results.machine, results.limits
    lines = [
        f"{results.date}; {machine['cores']} cores of {machine['cpu']} ({', '.join(machine['flags'])}), "
        f"{machine['memory_gib']} GiB; load average {_loads(results.load_before)} before, "
        f"{_loads(results.load_after)} after; the run took {results.seconds / 60:.0f} minutes"
        + ("; a quick run, not to be quoted" if results.quick else ""),
        "; ".join(f"{name} {version}" for name, version in results.versions.items()),
    ]
    lines += [f"{TITLES.get(name, name)}: {text}" for name, text in results.settings.items()]
    if limits:
        lines.append(
            f"Roof, measured in this run: {limits['bytes_per_s'] / 1e9:.1f} GB/s read, "
            f"{limits['operations_per_s'] / 1e9:,.0f} GFLOP/s of bf16 products"
        )
    for group, found in results.measures.items():
        lines.append(f"{group}: " + ", ".join(f"{key} {_value(value)}" for key, value in found.items()))
    lines += [f"Not measured: {name}: {reason.splitlines()[0]}" for name, reason in results.failures.items()]
    return lines


def terminal_tables(results: Results) -> list[Table]:
    tables = []
    for header, rows in (speeds(results), others(results)):
        if rows:
            drawn = Table(box=None, header_style="bold", pad_edge=False)
            for column in header:
                drawn.add_column(column, justify="right" if column in TITLES.values() else "left")
            for row in rows:
                drawn.add_row(*row, style="red" if "FAIL" in row else None)
            tables.append(drawn)
    return tables


def markdown(results: Results, plot: str | None) -> str:
    parts = [f"- {line}" for line in details(results)]
    for header, rows in (speeds(results), others(results)):
        if rows:
            table = [header, ["---"] * len(header), *rows]
            parts += ["", *(f"| {' | '.join(row)} |" for row in table)]
    if plot:
        parts += ["", f"![Tokens per second of every case and contender]({plot})"]
    return "\n".join(parts)


def rewrite_readme(results: Results, plot: str | None, readme: Path = README) -> None:
    put_between(readme, BEGIN, END, markdown(results, plot))


def _roof(results: Results, case: Case) -> list[str]:
    rate = results.rate(OURS, case.name)
    if not results.limits or rate is None:
        return ["-", "-"]
    bound = load_of(case, Shape.of(results.base)).bound(results.limits)
    return [_number(bound), f"{rate / bound:.0%}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _loads(averages: tuple[float, float, float]) -> str:
    return " / ".join(f"{average:.1f}" for average in averages)

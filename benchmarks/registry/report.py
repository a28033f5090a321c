"""The registry's numbers for people: the section of README.md that is written from results/registry.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from benchmarks.pages import put_between

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- registry: written by `python -m benchmarks.registry` -->", "<!-- end of registry -->"
DIRECTORY, BUCKET, SQLITE, FILES = "lorimer directory", "lorimer s3", "mlflow sqlite", "mlflow files"
TITLES = {
    DIRECTORY: "Lorimer, directory",
    BUCKET: "Lorimer, S3",
    SQLITE: "MLflow, sqlite",
    FILES: "MLflow, files",
}
PEERS = (SQLITE, FILES)


class Results(msgspec.Struct, kw_only=True):
    """Contender -> operation -> the median of one run; of ours the slower of two."""

    date: str
    machine: dict[str, Any]
    load_before: tuple[float, float, float]
    load_after: tuple[float, float, float]
    rounds: int
    models: int
    median_ms: dict[str, dict[str, float]]
    requests: dict[str, dict[str, float]]
    failures: dict[str, str]


def markdown(results: Results) -> str:
    operations = list(results.median_ms[DIRECTORY])
    table = [["median ms (requests)", *TITLES.values()], ["---"] * (len(TITLES) + 1)]
    table += [[name, *(_cell(results, contender, name) for contender in TITLES)] for name in operations]
    machine = results.machine
    lines = [
        f"- {results.date}; {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB; load average "
        f"{_loads(results.load_before)} before, {_loads(results.load_after)} after",
        f"- {results.rounds} rounds; `list` of {results.models + 1} models; in brackets after MLflow's times: how many "
        "times our directory's",
        *(f"- Not measured: {TITLES[name]}: {reason.splitlines()[0]}" for name, reason in results.failures.items()),
        "",
        *(f"| {' | '.join(row)} |" for row in table),
    ]
    return "\n".join(lines)


def rewrite_readme(results: Results, readme: Path = README) -> None:
    put_between(readme, BEGIN, END, markdown(results))


def _cell(results: Results, contender: str, operation: str) -> str:
    found = results.median_ms.get(contender, {}).get(operation)
    if found is None:
        return "-"
    if contender in PEERS:
        return f"{found:.2f} ({found / results.median_ms[DIRECTORY][operation]:.2g}x)"
    return f"{found:.2f} ({results.requests[contender][operation]:g})"


def _loads(averages: tuple[float, float, float]) -> str:
    return " / ".join(f"{average:.1f}" for average in averages)

"""The gateway's numbers for people: the section of README.md that is written from results/gateway.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.pages import put_between

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent.parent / "results" / "gateway.json"
BEGIN, END = "<!-- gateway: written by `python -m benchmarks.gateway` -->", "<!-- end of gateway -->"
KEPT = 0.90
HARM = 1.10
GROWTH = 0.02


def keep(part: str, found: dict[str, Any], conditions: dict[str, Any], path: Path = RESULTS) -> None:
    """Replace one part of the results and write the section anew."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results[part] = {**conditions, **found}
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    put_between(README, BEGIN, END, markdown(results))


def passed(part: str, found: dict[str, Any]) -> bool:
    if part == "load":
        return found["goodput_kept"] >= KEPT and not found["other_errors"] and not found["without_retry_after"]
    if part == "hostile":
        return bool(found["p99_ratio"] <= HARM)
    return not found["unexpected"] and not found["rows_left"] and found["resident_growth"] <= GROWTH


def markdown(results: dict[str, Any]) -> str:
    parts = {"load": _load, "hostile": _hostile, "soak": _soak}
    return "\n\n".join(write(results[part]) for part, write in parts.items() if part in results)


def _conditions(found: dict[str, Any]) -> str:
    machine = found["machine"]
    loads = " / ".join(f"{each:.1f}" for each in found["load_before"])
    return (
        f"{found['date']}; {machine['cores']} cores of {machine['cpu']}; load average {loads} before; base "
        f"{found['base']}, engine threads {found['threads']}, {found['max_batch']} rows at once, "
        f"{found['max_waiting']} waiting"
    )


def _load(found: dict[str, Any]) -> str:
    head = [
        "offered",
        "answers/s offered",
        "good/s",
        "first token p50 / p99",
        "refused",
        "refusal p50",
        "`retry-after`",
    ]
    rows = [head, ["---"] * len(head)]
    for point in found["points"]:
        refused = sum(count for code, count in point["ended"].items() if code in ("overloaded", "rate_limit_exceeded"))
        waits = point["retry_after_s"]
        rows.append(
            [
                f"{point['times']}x",
                f"{point['offered']:.1f}",
                f"{point['goodput']:.1f}",
                f"{point['first_token_p50_s'] or 0:.2f} / {point['first_token_p99_s'] or 0:.2f} s",
                f"{refused} of {sum(point['ended'].values())}",
                f"{point['refusal_p50_ms']:.0f} ms" if refused else "-",
                f"{waits[0]:.0f} - {waits[2]:.0f} s" if waits else "-",
            ]
        )
    verdict = "pass" if passed("load", found) else "FAIL"
    return "\n".join(
        [
            f"**Open loop** ({_conditions(found)}; answers of {found['answer_tokens']} tokens, `x-request-timeout: "
            f"{found['deadline_s']:g}`). Capacity, closed loop: {found['capacity']:.1f} answers/s. Least goodput over "
            f"its peak: {found['goodput_kept']:.0%} (bar 90 %); at most {found['most_rows']} rows open; errors other "
            f"than 429 and 503: {found['other_errors']}; refusals without `retry-after`: "
            f"{found['without_retry_after']}: {verdict}",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )


def _hostile(found: dict[str, Any]) -> str:
    (quiet50, beside50), (quiet99, beside99) = found["p50_ms"], found["p99_ms"]
    verdict = "pass" if passed("hostile", found) else "FAIL"
    return (
        f"**Beside hostile clients** ({_conditions(found)}): {found['rate']:g} hostile requests a second of "
        f"{len(found['kinds'])} kinds and {found['held']} connections that never finish a head. Others' p50 "
        f"{quiet50:.0f} ms in quiet, {beside50:.0f} ms beside them; p99 {quiet99:.0f} and {beside99:.0f} ms: "
        f"{found['p99_ratio']:.2f}x (bar 1.10x): {verdict}"
    )


def _soak(found: dict[str, Any]) -> str:
    ended = ", ".join(f"{count:,} {code}" for code, count in sorted(found["ended"].items(), key=lambda each: -each[1]))
    verdict = "pass" if passed("soak", found) else "FAIL"
    return (
        f"**Soak** ({_conditions(found)}): {found['minutes']:g} minutes, {found['requests']:,} requests ({ended}); "
        f"resident memory {found['resident_warm_mb']:.0f} MB after warm-up, {found['resident_end_mb']:.0f} MB at the "
        f"end, trend {found['resident_growth']:+.1%}; rows left over: {found['rows_left']}; open files: "
        f"{found['open_files']}: {verdict}"
    )

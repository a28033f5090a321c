"""Pages of which a part is written by a program, between two marks. Knows nothing of what stands there."""

from __future__ import annotations

from pathlib import Path

from registry.errors import Corrupt


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what is between the two marks."""
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise Corrupt(f"{page} has lost the marks around its results", hint=f"put back {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")

"""How PEFT finds modules by name, for patterns simple enough that matching one is never slow. Knows no adapter.

PEFT takes regular expressions in several places, and they come from strangers: one such as `(a+)+b` would keep a
process busy for years. Only expressions without nested or many repetitions pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from registry.errors import Refused

LITERAL = re.compile(r"[A-Za-z0-9_.]+")
MAX_LENGTH = 4096
MAX_REPETITIONS = 3
_ATOM = r"(?:[A-Za-z0-9_.]|\\[.d]|\[[A-Za-z0-9_-]+\])(?:[*+]\??|\?)?"
_SIMPLE = re.compile(rf"(?:{_ATOM}|\((?:\?:)?|\)\??|[|^$])+")  # a group may be optional, never repeated


def check_pattern(pattern: str, where: str) -> None:
    """Refused, naming `where`, unless the pattern is one that we match."""
    repetitions = len(re.findall(r"[*+]", pattern))
    if len(pattern) > MAX_LENGTH or repetitions > MAX_REPETITIONS or not _SIMPLE.fullmatch(pattern):
        raise Refused(
            f"{where} holds the pattern {pattern[:80]!r}",
            hint=f"use names, '.', '\\d', '[0-9]', '(a|b)' and at most {MAX_REPETITIONS} of '*' and '+'",
        )
    try:
        _compiled(pattern)
    except re.error as error:
        raise Refused(f"{where} holds {pattern[:80]!r}, which is no regular expression: {error}") from error


def matches(pattern: str, module: str) -> bool:
    """The whole name matches, as in PEFT's `target_modules` given as one string."""
    return _compiled(pattern).fullmatch(module) is not None


def matches_end(pattern: str, module: str) -> bool:
    """The end of the name matches, from some dot on, as in PEFT's `rank_pattern` and `alpha_pattern`."""
    return _compiled(rf"(.*\.)?({pattern})$").match(module) is not None


def ends_with(module: str, names: Iterable[str]) -> bool:
    """Whether the name is one of these or ends in one, after a dot."""
    return any(module == name or module.endswith("." + name) for name in names)


def layer_of(module: str, pattern: str | None) -> int | None:
    """The number of the layer that the module is in; `pattern` names the list of layers, None means any."""
    expression = r".*?\.[^.]*\.(\d+)\." if pattern is None else rf"(?:^|.*?\.){pattern}\.(\d+)\."
    found = _compiled(expression).match(module)
    return int(found[1]) if found else None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)

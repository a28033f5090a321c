"""One adapter in a line: what a list of all of them says, and which of them a reader wants. Reads no store."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property

import msgspec

from registry.errors import Invalid
from registry.names import Alias
from registry.versions import AdapterState

_BOUND = re.compile(r"(?P<metric>[^<>=]*[^<>=\s])\s*(?P<sign><=|>=|<|>|=)\s*(?P<value>[^<>=]+)")
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


class AdapterSummary(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An adapter after `events` events. Base, method, tags and metrics are those of its newest version."""

    adapter: str
    events: int
    num_versions: int
    latest: int
    """Number of the newest version; 0 where there is none."""
    aliases: dict[str, int]
    """Alias -> version number."""
    base: str
    method: str
    tags: dict[str, str]
    metrics: dict[str, float]
    updated_at: float


def summarise(state: AdapterState, events: int) -> AdapterSummary | None:
    """None where nothing ever came to be: no events, or only aborted ones."""
    if not state.created_at:
        return None
    newest = state.versions[-1] if state.versions else None
    return AdapterSummary(
        adapter=state.adapter,
        events=events,
        num_versions=len(state.versions),
        latest=newest.number if newest else 0,
        aliases={alias: state.select(Alias(alias)).number for alias in sorted(state.aliases)},
        base=newest.manifest.base.id if newest else "",
        method=newest.manifest.method if newest else "",
        tags=newest.manifest.tags if newest else {},
        metrics=newest.manifest.metrics if newest else {},
        updated_at=state.updated_at,
    )


@dataclass(frozen=True)
class Bound:
    """`accuracy>=0.9`"""

    metric: str
    sign: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Bound:
        found = _BOUND.fullmatch(text.strip())
        try:
            value = float(found["value"]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or math.isnan(value):
            hint = "write METRIC>=NUMBER with one of < <= = >= >"
            raise Invalid(f"not a bound on a metric: {text!r}", hint=hint, param="metric")
        return cls(found["metric"], found["sign"], value)

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """A metric that was never measured is within no bound."""
        return self.metric in metrics and _SIGNS[self.sign](metrics[self.metric], self.value)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Adapters that satisfy everything said here. `name` and `base` are globs."""

    name: str = ""
    base: str = ""
    method: str = ""
    alias: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Bound, ...] = ()

    def accepts(self, row: AdapterSummary) -> bool:
        return (
            (not self.name or self._name.match(row.adapter) is not None)
            and (not self.base or self._base.match(row.base) is not None)
            and (not self.method or row.method == self.method)
            and (not self.alias or self.alias in row.aliases)
            and all(row.tags.get(key) == value for key, value in self.tags.items())
            and all(bound.holds(row.metrics) for bound in self.metrics)
        )

    @cached_property
    def _name(self) -> re.Pattern[str]:
        return re.compile(translate(self.name))

    @cached_property
    def _base(self) -> re.Pattern[str]:
        return re.compile(translate(self.base))


EVERYTHING = Filter()

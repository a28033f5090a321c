"""Takes records out of objects: those of people who are forgotten always, and others that somebody names.

Two sweeps may meet on one object, each with a rule that the other does not know yet. So every sweep looks at the rule
again after it has written, and goes over what it wrote until the rule stands still: an erasure that was asked for
before that look is obeyed here, and one asked for later finds everything that was written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from registry.captures.erasures import Erasures
from registry.captures.objects import CaptureObjects
from registry.captures.records import Record
from registry.captures.rule import Rule
from registry.parallel import at_once

Goes = Callable[[Record], bool]


@dataclass
class Taken:
    """What one sweep took out."""

    records: list[Record] = field(default_factory=list)
    num_objects: int = 0


class Sweep:
    def __init__(self, objects: CaptureObjects, erasures: Erasures) -> None:
        self._objects = objects
        self._erasures = erasures

    def take_out(self, keys: Iterable[str], goes: Goes | None = None) -> Taken:
        """Go through these objects. Stopped anywhere, it has lost nothing that stays, and can be done again."""
        taken, todo = Taken(), list(keys)
        rule = self._erasures.whole_rule()
        while todo and (rule or goes is not None):
            thinned = list(at_once(partial(self._objects.thin, stays=self._staying(rule, goes)), todo))
            taken.records += [record for records, _ in thinned for record in records]
            taken.num_objects += sum(bool(records) for records, _ in thinned)
            todo = [successor for _, successor in thinned if successor is not None]
            obeyed, rule = rule, self._erasures.whole_rule()
            if rule == obeyed:
                break
        return taken

    def _staying(self, rule: Rule, goes: Goes | None) -> Callable[[Record], bool]:
        pseudonym = self._erasures.pseudonyms.of
        return lambda record: not (rule.covers(record, pseudonym) or (goes is not None and goes(record)))

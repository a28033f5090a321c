"""An adapter's log, walked: what each event changed, and how things stood at a time. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from registry.log import Event
from registry.ops import Op
from registry.versions import AdapterState

Fold = Callable[[AdapterState, Event[Op]], AdapterState]


class Step(NamedTuple):
    event: Event[Op]
    before: AdapterState
    after: AdapterState


def steps(events: Iterable[Event[Op]], fold: Fold, start: AdapterState) -> Iterator[Step]:
    """Every event between the state that it found and the one that it left."""
    state = start
    for event in events:
        before, state = state, fold(state, event)
        yield Step(event, before, state)


def state_at(walked: Iterable[Step], start: AdapterState, at: float) -> AdapterState:
    """The state before the first event that is later than `at`, by the clocks of the writers."""
    state = start
    for step in walked:
        if step.event.time > at:
            break
        state = step.after
    return state

"""What one HTTP request tells its log line: identity, timings, outcome. Never any prompt or answer text."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from litestar import Request

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
KEY = "trace"
TRACE_ID = "trace_id"
"""Where a tracer leaves the id of the trace that the request belongs to."""


@dataclass(eq=False)
class Trace:
    """Filled in as a request walks through; logged once when its last byte is out."""

    request_id: str
    fields: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    """When each measured stage first began, by `time.perf_counter`."""
    started_at: float = field(default_factory=time.perf_counter)
    bytes_per_s: float = math.inf
    """Every byte of the body that has come gives the rest as much more time as it takes at this pace."""
    failure: BaseException | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """For whatever response there will be, an error's too."""
    at_end: Callable[[], None] | None = None
    """What to do when the request is over, however it ended: nobody closes a stream that was broken off."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time a stage under its `server-timing` name."""
        since = time.perf_counter()
        self.begun.setdefault(stage, since)
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - since

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started_at

    def server_timing(self) -> str:
        """The header's value: `resolve;dur=0.4, load;dur=1.2` in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in self.seconds.items())


def begin(given: str | None) -> Trace:
    """A trace with the caller's `x-request-id`, or one of ours when there is none fit to be logged and echoed."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return Trace(given)
    return Trace(f"req-{uuid.uuid4().hex}")


def trace_of(request: Request[Any, Any, Any]) -> Trace:
    """A request's trace: the entrance's, or a new one where the application is run without it."""
    trace = request.scope["state"].setdefault(KEY, begin(None))
    assert isinstance(trace, Trace)
    return trace

"""The clients of a soak: they keep the engine full, leave when they are due to, and count how every request ended.

One thread starts everything and takes everything in; loads and steps happen in their own threads, and tell a queue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from benchmarks.soak.traffic import Ask
from registry.errors import LorimerError
from serving.adapter import LoadedAdapter
from serving.engine import Engine
from serving.lease import Lease, give_up
from serving.mix import mix, mix_digest
from serving.request import Event, Finished, Request, Token
from serving.residency import Residency
from serving.seats import Reserve

STUCK_S = 120.0


@dataclass(eq=False)
class Open:
    """One request that has not ended."""

    ask: Ask
    leases: list[Lease] = field(default_factory=list)
    pending: Future[Lease] | None = None
    tokens: list[int] = field(default_factory=list)
    is_submitted: bool = False
    has_left: bool = False
    times_ended: int = 0


@dataclass(frozen=True)
class Answered:
    ask: Ask
    tokens: tuple[int, ...]


News = tuple[Open, "Future[Lease] | Event"]


class Clients:
    def __init__(self, engine: Engine, residency: Residency, asks: Iterator[Ask], in_flight: int) -> None:
        self._engine, self._residency, self._asks = engine, residency, asks
        self._in_flight = in_flight
        self._news: SimpleQueue[News] = SimpleQueue()
        self._open: dict[int, Open] = {}
        self.ended: Counter[str] = Counter()
        self.faults: list[str] = []
        self.checked: list[Answered] = []
        self.num_tokens = 0

    @property
    def num_ended(self) -> int:
        return self.ended.total()

    def run(self, requests: int) -> None:
        """So many more requests, as many at once as allowed, until the last has ended."""
        to_start = requests
        while to_start or self._open:
            while to_start and len(self._open) < self._in_flight:
                self._start(next(self._asks))
                to_start -= 1
            try:
                opened, news = self._news.get(timeout=STUCK_S)
            except Empty:
                self.faults.append(f"{len(self._open)} requests have not ended after {STUCK_S:.0f} s: {self._stuck()}")
                self._open.clear()
                return
            if isinstance(news, Future):
                self._leased(opened, news)
            else:
                self._heard(opened, news)

    def _start(self, ask: Ask) -> None:
        opened = self._open[ask.number] = Open(ask)
        self._advance(opened)
        if ask.leaves == "while loading" and opened.pending is not None and not opened.has_left:
            opened.has_left = True
            give_up(opened.pending)

    def _advance(self, opened: Open) -> None:
        """Lease the next adapter that is needed, or submit."""
        parts = opened.ask.parts
        try:
            if len(opened.leases) < len(parts):
                self._wait_for(opened, self._residency.request(parts[len(opened.leases)][0]))
            elif len(opened.leases) == len(parts) > 1:
                self._wait_for(opened, self._request_mix(opened))
            else:
                self._submit(opened)
        except LorimerError as error:
            self._end(opened, "error", f"{type(error).__name__}: {error}")

    def _request_mix(self, opened: Open) -> Future[Lease]:
        leases, base = opened.leases, self._engine.base
        weights = [weight for _, weight in opened.ask.parts]

        def make(reserve: Reserve) -> LoadedAdapter:
            reserve(sum(lease.adapter.num_bytes for lease in leases))
            return mix(base, [(lease.adapter, weight) for lease, weight in zip(leases, weights, strict=True)])

        return self._residency.request(mix_digest(opened.ask.parts), make)

    def _wait_for(self, opened: Open, pending: Future[Lease]) -> None:
        opened.pending = pending
        pending.add_done_callback(lambda done: self._news.put((opened, done)))

    def _leased(self, opened: Open, pending: Future[Lease]) -> None:
        if opened.has_left:  # its lease, if one came, is released by `give_up`
            self._end(opened, "left while loading")
        elif (error := pending.exception()) is not None:
            self._end(opened, "error", f"{type(error).__name__}: {error}")
        else:
            opened.leases.append(pending.result())
            self._advance(opened)

    def _submit(self, opened: Open) -> None:
        ask = opened.ask
        for part in opened.leases[:-1]:
            part.release()
        request = Request(
            id=f"soak-{ask.number}",
            prompt=ask.prompt,
            sampling=ask.sampling,
            adapter=opened.leases[-1].adapter if opened.leases else None,
            tenant=ask.tenant,
            want_features=ask.number % 3 == 0,
        )
        self._engine.submit(request, lambda event: self._news.put((opened, event)))
        opened.is_submitted = True
        if ask.leaves == "at once":
            self._engine.abort(request.id)

    def _heard(self, opened: Open, event: Event) -> None:
        ask = opened.ask
        if isinstance(event, Token):
            opened.tokens.append(event.id)
            if ask.leaves == "after some tokens" and len(opened.tokens) == ask.leaves_after:
                self._engine.abort(f"soak-{ask.number}")
        elif isinstance(event, Finished):
            self._finished(opened, event)

    def _finished(self, opened: Open, event: Finished) -> None:
        ask, fault = opened.ask, None
        if event.reason not in ("stop", "length", "abort"):
            fault = f"{event.reason}: {event.error}"
        elif event.reason == "abort" and ask.leaves in ("never", "while loading"):
            fault = "it was aborted though its client stayed"
        elif event.usage.completion_tokens != len(opened.tokens) or event.usage.prompt_tokens != len(ask.prompt):
            fault = f"{event.usage} for {len(ask.prompt)} and {len(opened.tokens)} tokens"
        if ask.is_checked and fault is None:
            self.checked.append(Answered(ask, tuple(opened.tokens)))
        self.num_tokens += len(opened.tokens)
        self._end(opened, event.reason, fault)

    def _end(self, opened: Open, how: str, fault: str | None = None) -> None:
        opened.times_ended += 1
        for lease in opened.leases:
            lease.release()
        if fault is not None or opened.times_ended > 1:
            self.faults.append(f"request {opened.ask.number}: {fault or 'ended twice'}")
        if self._open.pop(opened.ask.number, None) is not None:
            self.ended[how] += 1

    def _stuck(self) -> str:
        return ", ".join(
            f"{each.ask.number} ({'in the engine' if each.is_submitted else 'loading'})"
            for each in list(self._open.values())[:5]
        )


def settle(engine: Engine, timeout_s: float = 10.0) -> bool:
    """Wait until no step runs; False when it does not come to rest."""
    end = time.monotonic() + timeout_s
    while engine.stats().running or engine.stats().waiting:
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    time.sleep(0.02)
    return True

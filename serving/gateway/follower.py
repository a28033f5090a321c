"""Loads what aliases come to point at, before the first request needs it, and keeps pinned adapters warm and held.

Watching tells which adapters are about to change; only models that were asked for here, or are pinned, are looked up
again. A hint can be missed without harm: every request resolves its alias freshly itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from structlog.typing import FilteringBoundLogger

from registry.errors import LorimerError
from serving.gateway.choosing import Catalog
from serving.gateway.holding import Holder
from serving.gateway.watch import Watch
from serving.residency import Residency

POLL_S = 1.0
CLOSE_S = 5.0
AWAKE_S = 600.0
"""A tenant whom nobody asked anything for this long is not looked after: each look is a request to the store."""
SETTLE_S = 10.0
"""A notice comes before its commit: how long the log is looked at for it."""


class Follower:
    """Owns one thread. `pinned` are models as requests name them."""

    def __init__(
        self,
        catalog: Catalog,
        residency: Residency,
        pinned: Sequence[str],
        log: FilteringBoundLogger,
        *,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._residency = residency
        self._watch = Watch(catalog.registry, log)
        self._pinned: dict[str, frozenset[str]] = dict.fromkeys(pinned, frozenset())
        """Model -> the digests it is pinned at."""
        self._unsettled = {self._watch.place_of(model): clock() + SETTLE_S for model in pinned}
        """Tenant and adapter -> until when its log is looked at."""
        self._holder = Holder(catalog, log, clock)
        self._log = log
        self._poll_s = poll_s
        self._clock = clock
        self._asked_at = clock()
        self._looking = threading.Lock()
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="gateway-follower", daemon=True)

    def start(self) -> None:
        for model in self._pinned:
            if not self._resolve(model):
                self._log.warning("a pinned model does not exist yet", model=model)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        self._holder.release()

    def wake(self) -> None:
        """Somebody asks for something of this tenant's."""
        self._asked_at = self._clock()

    def is_awake(self) -> bool:
        return bool(self._pinned) or self._clock() - self._asked_at < AWAKE_S

    def is_pinned(self, model: str) -> bool:
        return model in self._pinned

    def pin(self, model: str) -> None:
        """Keep what the model means in memory from now on. Blocks on the store."""
        with self._looking:
            self._pinned.setdefault(model, frozenset())
            self._unsettled[self._watch.place_of(model)] = self._clock() + SETTLE_S
            self._repin(model)

    def unpin(self, model: str) -> None:
        with self._looking:
            for digest in self._pinned.pop(model, frozenset()) - self._held():
                self._residency.unpin(digest)

    def poll(self) -> None:
        """Look once: note who is announced, prefetch what followed aliases came to mean, keep pins in place."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        now = self._clock()
        followed = self._catalog.followed()
        announced = self._watch.fresh([*self._pinned, *(model for model, _ in followed)])
        self._unsettled |= dict.fromkeys(announced, now + SETTLE_S)
        self._unsettled = {place: until for place, until in self._unsettled.items() if now < until}
        if self._unsettled:
            for model, digests in followed:
                self._follow(model, digests)
            for model in self._pinned:
                self._repin(model)
        for digest in self._held():
            if not self._residency.is_resident(digest):
                self._residency.pin(digest)

    def _follow(self, model: str, digests: frozenset[str]) -> None:
        if self._watch.place_of(model) in self._unsettled:
            for found in sorted(self._resolve(model) - digests):
                self._log.info("prefetch", model=model, digest=found)
                self._residency.prefetch(found)

    def _repin(self, model: str) -> None:
        before = self._pinned[model]
        if self._watch.place_of(model) not in self._unsettled:
            return
        found = self._resolve(model)
        if not found or found == before:
            return
        self._pinned[model] = found
        for digest in sorted(found - before):
            self._log.info("pin", model=model, digest=digest)
            self._residency.pin(digest)
        for digest in before - self._held():
            self._residency.unpin(digest)

    def _held(self) -> frozenset[str]:
        return frozenset[str]().union(*self._pinned.values())

    def _resolve(self, model: str) -> frozenset[str]:
        """Every version that a split alias stands at; empty for what is deleted, or not published yet."""
        try:
            return self._catalog.arms(model)
        except LorimerError:  # a request for it is told why
            return frozenset()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self.is_awake():
                    self.poll()
                self._failing = False
            except LorimerError as error:
                if not self._failing:
                    self._log.warning("aliases are not followed", error=str(error))
                self._failing = True
            self._holder.renew(self._held())
            self._closing.wait(self._poll_s)

"""Any order of requests, releases, prefetches, pins, failures and time, under a budget that just holds the largest."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from registry.errors import NotFound
from serving.lease import Lease, give_up
from serving.residency import Residency

from .conftest import Zoo

DIGESTS = [f"sha256:{number}" for number in range(6)]
digests = st.sampled_from(DIGESTS)


def machine_for(zoo: Zoo) -> type[RuleBasedStateMachine]:
    class Traffic(RuleBasedStateMachine):
        leases = Bundle("leases")
        """As many as were received, however it went: what there is to choose from must not depend on timing."""
        requests = Bundle("requests")

        def __init__(self) -> None:
            super().__init__()
            self.now = 0.0
            self.broken: set[str] = set()
            self.gate = threading.Event()
            self.gate.set()
            self.held: list[tuple[str, Lease]] = []
            self.open_requests: list[tuple[str, Future[Lease]]] = []
            budget = max(adapter.num_bytes for adapter in zoo.adapters[: len(DIGESTS)])
            self.residency = Residency(self.fetch, zoo.base, budget, patience_s=0.01, clock=lambda: self.now)

        def fetch(self, digest: str) -> Path:
            assert self.gate.wait(10)
            if digest in self.broken:
                raise NotFound(f"{digest} is broken")
            return zoo.directories[int(digest.removeprefix("sha256:"))]

        @rule(target=requests, digest=digests)
        def request(self, digest: str) -> Any:
            try:
                pending = self.residency.request(digest)
            except NotFound as error:  # of just now; whether it is known yet depends on the loader's thread
                pending = Future()
                pending.set_exception(error)
            self.open_requests.append((digest, pending))
            return digest, pending

        @rule(target=leases, request=consumes(requests))
        def receive(self, request: Any) -> Any:
            self.gate.set()
            digest, pending = request
            self.open_requests.remove(request)
            try:
                lease = pending.result(10)
            except NotFound:
                return digest, None
            assert lease.adapter.digest == digest
            self.held.append((digest, lease))
            return digest, lease

        @rule(request=consumes(requests))
        def leave(self, request: Any) -> None:
            self.open_requests.remove(request)
            give_up(request[1])

        @rule(lease=consumes(leases), twice=st.booleans())
        def release(self, lease: Any, twice: bool) -> None:
            if lease[1] is None:
                return
            self.held.remove(lease)
            lease[1].release()
            if twice:
                lease[1].release()

        @rule(digest=digests)
        def prefetch(self, digest: str) -> None:
            self.residency.prefetch(digest)

        @rule(digest=digests)
        def pin(self, digest: str) -> None:
            self.residency.pin(digest)

        @rule(digest=digests)
        def unpin(self, digest: str) -> None:
            self.residency.unpin(digest)

        @rule(digest=digests)
        def break_or_mend(self, digest: str) -> None:
            self.broken ^= {digest}

        @rule(seconds=st.sampled_from([0.1, 1.0, 100.0]))
        def wait(self, seconds: float) -> None:
            self.now += seconds

        @rule()
        def stall(self) -> None:
            """Loads that start now stop at the store until somebody insists on an answer."""
            self.gate.clear()

        @invariant()
        def accounts_are_right(self) -> None:
            self.residency.check_integrity()
            for digest, _ in self.held:
                assert self.residency.is_resident(digest), "what is leased is here"
            stats = self.residency.stats()
            assert stats.leased >= len({digest for digest, _ in self.held})
            assert stats.peak_bytes <= stats.byte_budget or stats.overdrafts

        def teardown(self) -> None:
            self.gate.set()
            for _, pending in self.open_requests:
                give_up(pending)
            for _, lease in self.held:
                lease.release()
            for digest in DIGESTS:
                self.residency.unpin(digest)
            end = time.monotonic() + 10
            while self.residency.stats().loading or self.residency.stats().leased:
                assert time.monotonic() < end, self.residency.stats()
                time.sleep(0.001)
            stats = self.residency.stats()
            assert stats.resident_bytes <= stats.byte_budget
            self.residency.check_integrity()
            self.residency.close()

    return Traffic


@pytest.mark.usefixtures("zoo")
def test_any_order_keeps_the_accounts(zoo: Zoo) -> None:
    run_state_machine_as_test(
        machine_for(zoo),
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )

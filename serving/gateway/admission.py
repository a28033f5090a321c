"""Who is let in: first a place in the queue, then the caller's own limits; both before any text is tokenised.

For the event loop's thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serving.gateway.caller import Caller
from serving.gateway.deadline import Deadline
from serving.gateway.demand import Demand
from serving.gateway.limits import Grant, Quotas
from serving.gateway.places import Places

VISIT = Demand(rows=1, tokens=0)


@dataclass(eq=False)
class Admitted:
    """One request that holds its places until its `end`, which comes once."""

    places: Places
    tenant: str
    rows: int
    grant: Grant

    def end(self, tokens: int, *, ran: bool) -> None:
        """`tokens` it used in truth; `ran`: the engine has had its rows."""
        self.places.give_back(self.tenant, self.rows, ran=ran)
        self.grant.end(tokens)


@dataclass(eq=False)
class Admission:
    places: Places
    quotas: Quotas

    def admit(self, caller: Caller, demand: Demand) -> Admitted:
        """Busy, RateLimited, RequestTooLarge or DeadlinePassed otherwise. Headers tell what is left of the limits."""
        principal = caller.principal
        self.places.take(principal.tenant, demand.rows, _left_s(caller.deadline))
        try:
            grant = self.quotas.admit(principal, demand.tokens)
        except BaseException:
            self.places.give_back(principal.tenant, demand.rows, ran=False)
            raise
        finally:
            caller.trace.headers |= self.quotas.headers(principal)
        return Admitted(self.places, principal.tenant, demand.rows, grant)

    @contextmanager
    def visit(self, caller: Caller) -> Iterator[None]:
        """A place in the queue and one of the caller's requests, for what the engine has no part in."""
        admitted = self.admit(caller, VISIT)
        try:
            yield
        finally:
            admitted.end(0, ran=False)


def _left_s(deadline: Deadline | None) -> float:
    """DeadlinePassed where there is nothing left: no queue is to blame then, and no retry will help."""
    if deadline is None:
        return math.inf
    left_s = deadline.left_s()
    if left_s <= 0:
        raise deadline.passed()
    return left_s

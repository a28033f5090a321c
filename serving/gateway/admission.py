"""Who is let in: first a place in the queue, then the caller's own limits; both before any text is tokenised.

For the event loop's thread. Knows no body: a request says what it will take as a `Demand`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serving.gateway.deadline import Deadline
from serving.gateway.limits import Grant, Quotas
from serving.gateway.places import Places
from serving.gateway.principal import Principal
from serving.gateway.trace import Trace

CHARACTERS_PER_TOKEN = 4
ANSWER_TOKENS = 256
"""What an answer is taken to use where no `max_tokens` bounds it."""


@dataclass(frozen=True)
class Demand:
    """Rows, and about how many tokens: read and written."""

    rows: int
    tokens: int

    @classmethod
    def of(cls, prompts: Sequence[str | Sequence[int]], n: int = 1, max_tokens: int | None = None) -> Demand:
        """`n` answers of up to `max_tokens` to each prompt, text or token ids."""
        read = sum(-(-len(each) // CHARACTERS_PER_TOKEN) if isinstance(each, str) else len(each) for each in prompts)
        rows = n * len(prompts)
        return cls(rows, read + rows * (ANSWER_TOKENS if max_tokens is None else max_tokens))


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

    def admit(self, principal: Principal, demand: Demand, trace: Trace, deadline: Deadline | None = None) -> Admitted:
        """Busy, RateLimited or RequestTooLarge otherwise. What is left of the caller's limits goes into the headers."""
        left_s = math.inf if deadline is None else deadline.left_s()
        self.places.take(principal.tenant, demand.rows, left_s)
        try:
            grant = self.quotas.admit(principal, demand.tokens)
        except BaseException:
            self.places.give_back(principal.tenant, demand.rows, ran=False)
            raise
        finally:
            trace.headers |= self.quotas.headers(principal)
        return Admitted(self.places, principal.tenant, demand.rows, grant)

"""Who is served next: virtual token counters per tenant and, within a tenant, per adapter. Knows no region and no step.

After Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024). Every position a row computes is charged to
its owner: a prompt token costs 1, a generated one WEIGHT; what is reused or computed once more after preemption costs
nothing. The row to be seated next comes from the tenant charged least, and within it from the adapter charged least;
within an adapter the first come is first. Who comes back after a pause starts at the level of the least charged of
those who are waiting, so that nobody saves up.

**Bound.** Let C be the highest cost of a row and B the number of seats. While two tenants have rows waiting all the
time, the service they receive differs by less than 2 B C, however much one of them sends: a row of f is seated only
while f is charged no more than g, and after that f can be charged at most for the B rows that have a seat. So neither
counter is ever ahead of the other by more than B C. The same holds for two adapters of one tenant. (Rows that wait for
a batch mate to compute their common prefix are passed over and do not count as waiting.)
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Set
from itertools import count

from serving.row import Owner, Row

WEIGHT = 2.0
"""Cost of a generated token; a prompt token costs 1."""
REMEMBERED = 4096
"""Counters kept before those that no longer matter are dropped."""


class Counters:
    """What each of several siblings has been charged."""

    def __init__(self) -> None:
        self._charged: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._last = ""

    def __getitem__(self, name: str) -> float:
        return self._charged.get(name, 0.0)

    @property
    def waiting(self) -> Set[str]:
        return self._waiting.keys()

    def charge(self, name: str, cost: float) -> None:
        self._charged[name] = self._charged.get(name, 0.0) + cost

    def enter(self, name: str) -> None:
        """One more row of `name` waits. If it is the only one, `name` is lifted to the level of the others."""
        if name not in self._waiting:
            level = min((self[other] for other in self._waiting), default=self[self._last])
            if len(self._charged) >= REMEMBERED:
                self._drop_below(level)
            self._charged[name] = max(self[name], level)
        self._waiting[name] = self._waiting.get(name, 0) + 1

    def leave(self, name: str) -> None:
        self._waiting[name] -= 1
        if not self._waiting[name]:
            del self._waiting[name]
            self._last = name

    def _drop_below(self, level: float) -> None:
        """Who does not wait and would be lifted on return need not be remembered."""
        self._charged = {
            name: charged for name, charged in self._charged.items() if name in self._waiting or charged > level
        }


class FairQueue:
    """The waiting rows, in fair order. Owns the counters."""

    def __init__(self) -> None:
        self.tenants = Counters()
        self._adapters: dict[str, Counters] = {}
        self._rows: dict[Owner, list[Row]] = {}
        self._length = 0
        self._arrivals = count(1)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        """All waiting rows, the next to be seated first."""
        for owner in sorted(self._rows, key=self._rank):
            yield from self._rows[owner]

    def add(self, row: Row) -> None:
        """A row that comes, or comes back after preemption."""
        row.arrival = row.arrival or next(self._arrivals)
        insort(self._rows.setdefault(row.owner, []), row, key=lambda each: each.arrival)
        self.tenants.enter(row.owner.tenant)
        self.adapters(row.owner.tenant).enter(row.owner.digest)
        self._length += 1

    def __contains__(self, row: Row) -> bool:
        return row in self._rows.get(row.owner, ())

    def remove(self, row: Row) -> None:
        """A row that waits no longer."""
        rows = self._rows[row.owner]
        rows.remove(row)
        if not rows:
            del self._rows[row.owner]
        self.tenants.leave(row.owner.tenant)
        self.adapters(row.owner.tenant).leave(row.owner.digest)
        self._length -= 1

    def charge(self, row: Row, stop: int) -> None:
        """The row computes its positions up to `stop`: charge those not yet paid for."""
        start = row.num_charged
        if stop <= start:
            return
        row.num_charged = stop
        prompt = max(min(stop, row.prompt_end) - start, 0)
        cost = prompt + WEIGHT * (stop - start - prompt)
        self.tenants.charge(row.owner.tenant, cost)
        self.adapters(row.owner.tenant).charge(row.owner.digest, cost)

    def adapters(self, tenant: str) -> Counters:
        """The counters of one tenant's adapters."""
        counters = self._adapters.get(tenant)
        if counters is None:
            counters = self._adapters[tenant] = Counters()
        return counters

    def forget(self) -> None:
        """Nobody waits and nobody runs: all accounts are settled."""
        assert not self._length
        self.tenants = Counters()
        self._adapters = {}

    def check_integrity(self) -> None:
        assert self._length == sum(map(len, self._rows.values()))
        assert all(self._rows.values())
        assert all(row.owner == owner for owner, rows in self._rows.items() for row in rows)
        assert all(row.region is None and row.num_computed == 0 for row in self)

    def _rank(self, owner: Owner) -> tuple[float, float, int]:
        tenant, digest = owner
        return self.tenants[tenant], self.adapters(tenant)[digest], self._rows[owner][0].arrival

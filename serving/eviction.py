"""Which resident thing is cheapest to lose. Knows keys, sizes and costs; holds nothing and evicts nothing itself.

GreedyDual-Size-Frequency (L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy", HP Labs TR HPL-98-69R1, 1998), which adds frequency to the GreedyDual-Size of Cao and Irani (1997):

    value = floor + uses * reload_s / num_bytes        floor = value of the dearest thing evicted so far

The rising floor ages what is no longer used. Departing from the paper, uses are remembered past an eviction and halved
now and then: what is popular but was squeezed out comes back with its standing, and an old favourite fades.
"""

from __future__ import annotations

from collections.abc import Iterable

HALVE_EVERY = 1000
"""Uses between two halvings; bounds what is remembered to twice as many keys."""


class GreedyDual:
    def __init__(self) -> None:
        self._floor = 0.0
        self._uses: dict[str, float] = {}
        self._values: dict[str, float] = {}
        self._until_halving = HALVE_EVERY

    def use(self, key: str) -> None:
        """Count one use, whether or not the thing is there yet; `weigh` it afterwards."""
        self._uses[key] = self._uses.get(key, 0.0) + 1.0
        self._until_halving -= 1
        if self._until_halving == 0:
            self._uses = {key: uses / 2 for key, uses in self._uses.items() if uses >= 1}
            self._until_halving = HALVE_EVERY

    def weigh(self, key: str, num_bytes: int, reload_s: float) -> None:
        """Set what losing the thing would cost, from now on."""
        self._values[key] = self._floor + self._uses.get(key, 0.0) * reload_s / max(num_bytes, 1)

    def cheapest(self, keys: Iterable[str]) -> str | None:
        """The one of these to evict first; None when there are none."""
        return min(keys, key=lambda key: self._values.get(key, 0.0), default=None)

    def evict(self, key: str) -> None:
        """The thing is gone: everything still here has grown that much older."""
        self._floor = max(self._floor, self._values.pop(key, 0.0))

    def forget(self, key: str) -> None:
        """The thing is gone, but not for want of worth."""
        self._values.pop(key, None)

"""The adapters of the rows that decode, side by side in one tensor per site, so that one `bmm` serves them all.

    slot        0        1        2       ...
    a        (in, R)  (in, R)  (in, R)          R: the largest rank seen, per sibling; shorter ones end in zeros
    b[q]     (R, out) (R, out) (R, out)
    gain     (out,)   (out,)   (out,)           likewise bias and input_gain; only where a packed adapter has one

Copied when an adapter enters the batch and never otherwise; the slots in use are always 0 .. num_slots. Knows no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from serving.adapter import Delta, LoadedAdapter
from serving.base import Site


class Table:
    """One site's packed deltas."""

    def __init__(self, site: Site, ranks: tuple[int, ...], capacity: int) -> None:
        self.ranks = ranks
        self.capacity = capacity
        self.offsets = [sum(ranks[:sibling]) for sibling in range(len(ranks))]
        self.a = site.weight.new_zeros(capacity, site.in_features, sum(ranks))
        self.b = [
            site.weight.new_zeros(capacity, rank, out) for rank, out in zip(ranks, site.out_features, strict=True)
        ]
        self.gain: Tensor | None = None
        """(capacity, sum of out_features) float32, ones where an adapter has none; None when no packed one has any."""
        self.bias: Tensor | None = None
        """(capacity, sum of out_features) float32, zeros likewise."""
        self.input_gain: Tensor | None = None
        """(capacity, in_features) float32, ones likewise."""
        self.replacements: dict[int, Tensor] = {}
        """Slot -> (sum of out_features, in_features), the weight its rows have instead of the base's."""

    def fits(self, slot: int, delta: Delta | None) -> bool:
        parts = delta.parts if delta else ()
        return slot < self.capacity and all(part.rank <= self.ranks[part.sibling] for part in parts)

    def write(self, slot: int, delta: Delta | None) -> None:
        """Zeroed columns of `a` silence whatever an earlier adapter left in `b`."""
        if delta is None or delta.a.shape[1] != self.a.shape[2]:
            self.a[slot].zero_()
        gain, bias, input_gain = (delta.gain, delta.bias, delta.input_gain) if delta else (None, None, None)
        self.gain = self._with_row(self.gain, slot, gain, neutral=1)
        self.bias = self._with_row(self.bias, slot, bias, neutral=0)
        self.input_gain = self._with_row(self.input_gain, slot, input_gain, neutral=1)
        self.replacements.pop(slot, None)
        if delta is None:
            return
        if delta.replacement is not None:
            self.replacements[slot] = delta.replacement
        for part in delta.parts:
            offset = self.offsets[part.sibling]
            self.a[slot, :, offset : offset + part.rank] = delta.a[:, part.start : part.stop]
            self.b[part.sibling][slot, : part.rank] = part.b

    def copy(self, source: int, target: int) -> None:
        for tensor in (self.a, *self.b, self.gain, self.bias, self.input_gain):
            if tensor is not None:
                tensor[target] = tensor[source]
        self.replacements.pop(target, None)
        if source in self.replacements:
            self.replacements[target] = self.replacements[source]

    def settle(self, deltas: Sequence[Delta | None]) -> None:
        """The adapters have been written or moved: forget what none of the slots in use needs any longer."""
        present = [delta for delta in deltas if delta is not None]
        if all(delta.gain is None for delta in present):
            self.gain = None
        if all(delta.bias is None for delta in present):
            self.bias = None
        if all(delta.input_gain is None for delta in present):
            self.input_gain = None
        self.replacements = {slot: held for slot, held in self.replacements.items() if slot < len(deltas)}

    def _with_row(self, held: Tensor | None, slot: int, value: Tensor | None, neutral: float) -> Tensor | None:
        if held is None:
            if value is None:
                return None
            held = value.new_full((self.capacity, len(value)), neutral)
        held[slot] = neutral if value is None else value
        return held


class Pack:
    """Slots 0 .. num_slots of every site that any packed adapter touches."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._sites = {site.index: site for site in sites}
        self._slots: list[LoadedAdapter] = []
        self._tables: dict[int, Table] = {}
        self._active: frozenset[int] = frozenset()

    @property
    def num_slots(self) -> int:
        return len(self._slots)

    def table(self, site: int) -> Table | None:
        return self._tables[site] if site in self._active else None

    def seat(self, adapters: Iterable[LoadedAdapter]) -> dict[LoadedAdapter, int]:
        """Make exactly these adapters the packed ones, moving as little as possible; returns each one's slot."""
        wanted = list(dict.fromkeys(adapters))
        if set(wanted) != set(self._slots):
            try:
                self._replace(wanted)
            except BaseException:
                self._slots, self._tables, self._active = [], {}, frozenset()
                raise
            self._active = frozenset(site for adapter in self._slots for site in adapter.deltas)
            for site in self._active:
                self._tables[site].settle([adapter.deltas.get(site) for adapter in self._slots])
        return {adapter: slot for slot, adapter in enumerate(self._slots)}

    def _replace(self, wanted: list[LoadedAdapter]) -> None:
        if not wanted:
            self._slots, self._tables = [], {}
        vacant = [slot for slot, adapter in enumerate(self._slots) if adapter not in wanted]
        for adapter in [adapter for adapter in wanted if adapter not in self._slots]:
            slot = vacant.pop(0) if vacant else len(self._slots)
            self._slots[slot : slot + 1] = [adapter]
            self._write(slot, adapter)
        for slot in sorted(vacant, reverse=True):
            self._close(slot)

    def _write(self, slot: int, adapter: LoadedAdapter) -> None:
        for site in self._tables.keys() | adapter.deltas.keys():
            table, delta = self._tables.get(site), adapter.deltas.get(site)
            if table is not None and table.fits(slot, delta):
                table.write(slot, delta)
            else:
                self._rebuild(site, slot)

    def _close(self, slot: int) -> None:
        """Fill a vacated slot with the last one, so that slots stay dense."""
        last = len(self._slots) - 1
        if slot != last:
            for table in self._tables.values():
                table.copy(last, slot)
            self._slots[slot] = self._slots[last]
        self._slots.pop()

    def _rebuild(self, site: int, slot: int) -> None:
        """A larger table for a larger rank or more slots, filled from the adapters that sit in it."""
        old = self._tables.get(site)
        shape = self._sites[site]
        ranks = list(old.ranks) if old else [0] * len(shape.names)
        for adapter in self._slots:
            delta = adapter.deltas.get(site)
            for part in delta.parts if delta else ():
                ranks[part.sibling] = max(ranks[part.sibling], part.rank)
        capacity = max(1 << slot.bit_length(), 1 << (len(self._slots) - 1).bit_length(), old.capacity if old else 0)
        table = self._tables[site] = Table(shape, tuple(ranks), capacity)
        for other, adapter in enumerate(self._slots):
            table.write(other, adapter.deltas.get(site))

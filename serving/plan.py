"""One step's arrangement: which token stands where, and the index tensors all layers share. Built once per step.

    tokens    [ decode, by slot | decode, no adapter ] [ prefill chunk | prefill chunk | ... by adapter ]
                one token a row; one packed bmm          each chunk a segment; two products per adapter

Rows are sorted so that each adapter is one contiguous stretch. Knows no layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from serving.adapter import LoadedAdapter
from serving.regions import Region
from serving.scheduler import Chunk


@dataclass(frozen=True, eq=False)
class Run:
    """Decoding rows whose regions are adjacent and equal, so that attention reads them as one dense tensor.

    Whole regions are read, to the end of their capacity: a shorter view would not be dense, and `bmm` would copy it.
    """

    first: Region
    count: int
    rows: Tensor | None
    """(count,) places of these rows among the step's tokens, in order of region; None: they are all its tokens."""
    bias: Tensor
    """(count * kv_heads, 1, capacity): 0 where a row has a token, -inf beyond its end."""
    _windowed: dict[int, Tensor] = field(default_factory=dict)

    def within(self, window: int | None) -> Tensor:
        """The bias of a layer whose tokens see only the last `window` positions, their own included."""
        if window is None or window >= self.first.capacity:
            return self.bias
        if window not in self._windowed:
            lengths = (self.bias == 0).sum(dim=-1, keepdim=True)
            is_before = torch.arange(self.first.capacity, device=self.bias.device) < lengths - window
            self._windowed[window] = self.bias.masked_fill(is_before, float("-inf"))
        return self._windowed[window]


@dataclass(frozen=True, eq=False)
class Span:
    """One chunk of a prompt: tokens `start:stop` of the step, the last `stop - start` of `length` positions."""

    start: int
    stop: int
    region: Region
    length: int
    bias: Tensor
    """(tokens, length): 0 where a token may look, -inf after itself."""
    _windowed: dict[int, Tensor] = field(default_factory=dict)

    def within(self, window: int | None) -> Tensor:
        """The bias of a layer whose tokens see only the last `window` positions, their own included."""
        if window is None or window >= self.length:
            return self.bias
        if window not in self._windowed:
            first = self.length - (self.stop - self.start)
            is_before = torch.ones_like(self.bias, dtype=torch.bool).tril_(first - window)
            self._windowed[window] = self.bias.masked_fill(is_before, float("-inf"))
        return self._windowed[window]


@dataclass(frozen=True, eq=False)
class Segment:
    start: int
    stop: int
    adapter: LoadedAdapter


@dataclass(frozen=True, eq=False)
class Roster:
    """Who stands where in a pass, and whose logits are wanted: all that the embedding and the head need to know."""

    chunks: tuple[Chunk, ...]
    """In the order of the pass's tokens."""
    starts: tuple[int, ...]
    """Place of each chunk's first token."""
    token_ids: Tensor
    """(1, tokens); 0 where a virtual token stands."""
    adapters: tuple[LoadedAdapter | None, ...]
    """Whose each chunk is."""
    kept: Tensor
    """Places of the tokens whose logits are wanted."""
    kept_adapters: tuple[LoadedAdapter | None, ...]
    """Whose each of them is."""


@dataclass(frozen=True, eq=False)
class Plan(Roster):
    """A roster with the index tensors that the module tree's linears and attention share."""

    positions: Tensor
    write_index: Tensor
    """(kv_heads * tokens,): where in the cache each head of each token goes."""
    runs: tuple[Run, ...]
    spans: tuple[Span, ...]
    segments: tuple[Segment, ...]
    seats: Tensor | None
    """(num_slots * rows per slot,) which token sits where in the packed product; None when token i sits in slot i."""
    seated: Tensor | None
    """Places in that grid that hold a token, in token order: the first `num_seated` tokens. None as above."""
    num_seated: int
    slots: Tensor
    """(num_seated,) the slot of each seated token, rising."""


def arrange(
    chunks: Sequence[Chunk], adapters: Sequence[LoadedAdapter | None]
) -> list[tuple[Chunk, LoadedAdapter | None]]:
    """Decodes before prefills; within each, rows of one adapter together."""
    order: dict[LoadedAdapter | None, int] = {}
    for adapter in adapters:
        order.setdefault(adapter, len(order))
    paired = list(zip(chunks, adapters, strict=True))
    return sorted(paired, key=lambda pair: (pair[0].num_tokens > 1, pair[1] is None, order[pair[1]]))


def build(
    arranged: Sequence[tuple[Chunk, LoadedAdapter | None]],
    logits_from: Mapping[Chunk, int],
    slots: Mapping[LoadedAdapter, int],
    *,
    kv_heads: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Plan:
    """Turn arranged chunks into index tensors. Decoding rows must come sorted by slot.

    `logits_from[chunk]`: its logits are wanted from this position (its stop: none) on.
    """
    who = identify(arranged, logits_from, device)
    chunks, starts = who.chunks, who.starts
    num_decodes = sum(chunk.num_tokens == 1 for chunk in chunks)
    positions = torch.tensor([position for chunk in chunks for position in range(chunk.start, chunk.stop)])
    seated = [slots[adapter] for adapter in who.adapters[:num_decodes] if adapter is not None]
    seats, holders = _seats(seated, len(slots))
    return Plan(
        **vars(who),
        positions=positions[None].to(device),
        write_index=_write_index(chunks, positions, kv_heads).to(device),
        runs=tuple(_runs(chunks[:num_decodes], who.token_ids.shape[1], kv_heads, dtype, device)),
        spans=tuple(_spans(chunks[num_decodes:], starts[num_decodes:], dtype, device)),
        segments=tuple(_segments(arranged[num_decodes:], starts[num_decodes:])),
        seats=None if seats is None else seats.to(device),
        seated=None if holders is None else holders.to(device),
        num_seated=len(seated),
        slots=torch.tensor(seated, dtype=torch.long),
    )


def identify(
    arranged: Sequence[tuple[Chunk, LoadedAdapter | None]], logits_from: Mapping[Chunk, int], device: torch.device
) -> Roster:
    """Who stands where, and whose logits are wanted."""
    chunks = tuple(chunk for chunk, _ in arranged)
    starts, total = [], 0
    for chunk in chunks:
        starts.append(total)
        total += chunk.num_tokens
    tokens = [max(token, 0) for chunk in chunks for token in chunk.row.tokens[chunk.start : chunk.stop]]
    kept = [
        (start + position - chunk.start, adapter)
        for (chunk, adapter), start in zip(arranged, starts, strict=True)
        for position in range(logits_from[chunk], chunk.stop)
    ]
    return Roster(
        chunks=chunks,
        starts=tuple(starts),
        token_ids=torch.tensor([tokens], device=device),
        adapters=tuple(adapter for _, adapter in arranged),
        kept=torch.tensor([place for place, _ in kept], dtype=torch.long, device=device),
        kept_adapters=tuple(adapter for _, adapter in kept),
    )


def _write_index(chunks: Sequence[Chunk], positions: Tensor, kv_heads: int) -> Tensor:
    """Head h of position p in region (start, capacity) lies at start * kv_heads + h * capacity + p."""
    counts = torch.tensor([chunk.num_tokens for chunk in chunks])
    regions = torch.tensor([[_region(chunk).start, _region(chunk).capacity] for chunk in chunks])
    starts, capacities = regions.repeat_interleave(counts, dim=0).unbind(dim=1)
    heads = torch.arange(kv_heads)[:, None]
    return (starts * kv_heads + heads * capacities + positions).reshape(-1)


def _runs(
    chunks: Sequence[Chunk], num_tokens: int, kv_heads: int, dtype: torch.dtype, device: torch.device
) -> list[Run]:
    placed = sorted((_region(chunk), place, chunk.stop) for place, chunk in enumerate(chunks))
    runs: list[list[tuple[Region, int, int]]] = []
    for item in placed:
        region = item[0]
        previous = runs[-1][-1][0] if runs else None
        if previous and previous.capacity == region.capacity and previous.start + previous.capacity == region.start:
            runs[-1].append(item)
        else:
            runs.append([item])
    built = []
    for run in runs:
        places = [place for _, place, _ in run]
        rows = None if places == list(range(num_tokens)) else torch.tensor(places, device=device)
        built.append(Run(run[0][0], len(run), rows, _beyond(run, kv_heads, dtype).to(device)))
    return built


def _beyond(run: Sequence[tuple[Region, int, int]], kv_heads: int, dtype: torch.dtype) -> Tensor:
    lengths = torch.tensor([stop for _, _, stop in run]).repeat_interleave(kv_heads)
    beyond = torch.arange(run[0][0].capacity)[None, :] >= lengths[:, None]
    return torch.zeros(beyond.shape, dtype=dtype).masked_fill_(beyond, float("-inf"))[:, None]


def _spans(chunks: Sequence[Chunk], starts: Sequence[int], dtype: torch.dtype, device: torch.device) -> list[Span]:
    spans = []
    for chunk, start in zip(chunks, starts, strict=True):
        shape = (chunk.num_tokens, chunk.stop)
        bias = torch.full(shape, float("-inf"), dtype=dtype, device=device).triu_(chunk.start + 1)
        spans.append(Span(start, start + chunk.num_tokens, _region(chunk), chunk.stop, bias))
    return spans


def _segments(arranged: Sequence[tuple[Chunk, LoadedAdapter | None]], starts: Sequence[int]) -> list[Segment]:
    placed = zip(arranged, starts, strict=True)
    segments = []
    for adapter, group in groupby(placed, key=lambda item: item[0][1]):
        members = list(group)
        (last, _), last_start = members[-1]
        if adapter is not None:
            segments.append(Segment(members[0][1], last_start + last.num_tokens, adapter))
    return segments


def _seats(slots: Sequence[int], num_slots: int) -> tuple[Tensor | None, Tensor | None]:
    """Lay the decoding rows, sorted by slot, out in a grid of slots; vacant places repeat row 0 and are not read."""
    if list(slots) == list(range(num_slots)):
        return None, None
    counts = [slots.count(slot) for slot in range(num_slots)]
    width = max(counts, default=0)
    grid = [0] * (num_slots * width)
    places = []
    for token, slot in enumerate(slots):
        place = slot * width + token - slots.index(slot)
        grid[place] = token
        places.append(place)
    return torch.tensor(grid), torch.tensor(places)


def _region(chunk: Chunk) -> Region:
    assert chunk.row.region is not None
    return chunk.row.region

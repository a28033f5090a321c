"""Where everything of an adapter lies in its slab, and how it gets there out of its file: planned once for all adapters
of one recipe, then carried out by the kernel in a few calls. Only for low rank on the decoder's linears.

    file   [ header | k.A | k.B | o.A | o.B | ... ]          in whatever order
    slab   [ a of q, k, v | b of q | b of k | b of v | ... ]  in the order in which a step reads it

Knows no values: what an adapter of another kind changes is told by serving/change.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from weakref import ref

import torch
from torch import Tensor

from registry.errors import Refused
from registry.layout import Module
from registry.tensors import TensorEntry
from serving.adapter_file import KNOWN_RECIPES, AdapterFile, Recipe
from serving.base import Base, Site
from serving.delta import Delta, Part
from serving.native import Move, kernel
from serving.slab import slab, slab_bytes

LINE = 64
"""Every tensor begins on a line of the cache."""
PIECE_BYTES = 1 << 19
"""So much of a file is brought in at once, in a fraction of a millisecond."""
_LOW_RANK = {"lora_A.weight", "lora_B.weight"}
_ITEM_BYTES = {"BF16": 2, "F32": 4}
"""What the kernel reads."""


@dataclass(frozen=True)
class _Place:
    """A matrix in the slab."""

    begin: int
    rows: int
    columns: int

    def of(self, memory: Tensor, dtype: torch.dtype) -> Tensor:
        size = self.rows * self.columns * dtype.itemsize
        return memory[self.begin : self.begin + size].view(dtype).view(self.rows, self.columns)


@dataclass(frozen=True)
class _SitePlan:
    """One site's share of the slab: `a`, and for each changed sibling its columns of `a` and its `b`."""

    a: _Place
    parts: tuple[tuple[int, int, int, _Place], ...]

    def delta(self, memory: Tensor, dtype: torch.dtype) -> Delta:
        parts = (Part(sibling, start, stop, b.of(memory, dtype)) for sibling, start, stop, b in self.parts)
        return Delta(self.a.of(memory, dtype), tuple(parts))


class SlabDeltas(Mapping[int, Delta]):
    """An adapter's deltas by their sites' indices: views of its slab, made when they are asked for."""

    def __init__(self, blueprint: Blueprint, memory: Tensor) -> None:
        self.blueprint, self.memory = blueprint, memory
        self._made: dict[int, Delta] = {}

    def __getitem__(self, site: int) -> Delta:
        if site not in self._made:
            self._made[site] = self.blueprint.delta(site, self.memory)
        return self._made[site]

    def __iter__(self) -> Iterator[int]:
        return iter(self.blueprint.sites)

    def __len__(self) -> int:
        return len(self.blueprint.sites)


class Blueprint:
    """One recipe's. `of` says whether there can be one."""

    def __init__(self, recipe: Recipe, base: Base) -> None:
        self._dtype, self._config = base.dtype, recipe.parsed
        self._end = 0
        self._moves: list[Move] = []
        self._names: list[str] = []
        modules = {module.name: module for module in recipe.layout.modules}
        planned = ((site, [modules.get(name) for name in site.names]) for site in base.sites)
        self.sites = {site.index: self._plan(site, found) for site, found in planned if any(found)}
        self.num_bytes = slab_bytes(self._end)
        self._pieces = list(self._cut())

    @staticmethod
    def of(file: AdapterFile, base: Base) -> Blueprint | None:
        """None where there is no kernel, or more to the adapter than low rank on linears."""
        return _known(file.recipe, ref(base))

    def carry_out(self, file: AdapterFile, pace: Callable[[], None]) -> SlabDeltas:
        """The deltas of a file of this recipe; Refused names a module whose values are not finite.

        Calls `pace` after each piece.
        """
        library, memory = kernel(self._dtype), slab(self._end)
        assert library is not None
        done = 0
        for moves in self._pieces:
            well = library.adopt_all(moves, len(moves), file.content.data_ptr(), memory.data_ptr())
            if well < len(moves):
                raise Refused(f"the adapter's weights of {self._names[done + well]} are not finite in {self._dtype}")
            done += len(moves)
            pace()
        return SlabDeltas(self, memory)

    def delta(self, site: int, memory: Tensor) -> Delta:
        return self.sites[site].delta(memory, self._dtype)

    def _plan(self, site: Site, modules: list[Module | None]) -> _SitePlan:
        changed = [(sibling, module) for sibling, module in enumerate(modules) if module is not None]
        total = sum(module.parts["lora_A.weight"].shape[0] for _, module in changed)
        a, parts, start = self._take(site.in_features, total), [], 0
        for sibling, module in changed:
            below, above = module.parts["lora_A.weight"], module.parts["lora_B.weight"]
            rank = below.shape[0]
            b = self._take(rank, site.out_features[sibling])
            self._move(module.name, below, 1.0, a.begin + start * self._dtype.itemsize, total)
            self._move(module.name, above, self._config.scaling_of(module.name), b.begin, b.columns)
            parts.append((sibling, start, start + rank, b))
            start += rank
        return _SitePlan(a, tuple(parts))

    def _take(self, rows: int, columns: int) -> _Place:
        place = _Place(self._end, rows, columns)
        size = rows * columns * self._dtype.itemsize
        self._end += -(-size // LINE) * LINE
        return place

    def _move(self, module: str, entry: TensorEntry, scale: float, to: int, stride: int) -> None:
        self._moves.append(Move(entry.begin, _ITEM_BYTES[entry.dtype], *entry.shape, scale, to, stride))
        self._names.append(module)

    def _cut(self) -> Iterator[ctypes.Array[Move]]:
        piece, size = list[Move](), 0
        for move in self._moves:
            piece.append(move)
            size += move.rows * move.columns * move.item_bytes
            if size >= PIECE_BYTES or move is self._moves[-1]:
                yield (Move * len(piece))(*piece)
                piece, size = [], 0


@lru_cache(KNOWN_RECIPES)
def _known(recipe: Recipe, base: ref[Base]) -> Blueprint | None:
    layout, held = recipe.layout, base()
    assert held is not None
    if held.device.type != "cpu" or kernel(held.dtype) is None:
        return None
    return Blueprint(recipe, held) if layout.modules and all(map(_is_plain, layout.modules)) else None


def _is_plain(module: Module) -> bool:
    """Whether it is low rank on a linear, and nothing else, stored as the kernel reads it."""
    return (
        module.place == "linear"
        and module.parts.keys() == _LOW_RANK
        and all(entry.dtype in _ITEM_BYTES for entry in module.parts.values())
    )

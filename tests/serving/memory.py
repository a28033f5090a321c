"""What the engine does with a step, without tensors: a KV cache that remembers what each position was made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.row import Owner, Row
from serving.scheduler import Chunk, Scheduler, Step

SAMPLED = 9
"""The token that every row samples, so that answers can be prefixes of later prompts."""


@dataclass
class Memory:
    """Plays steps against a scheduler and proves that no position holds what it should not."""

    planner: Scheduler
    cells: dict[int, tuple[Owner, tuple[int, ...]]] = field(default_factory=dict)
    """What a position was computed from: its owner and all tokens up to its own."""

    def play(self, step: Step) -> list[Row]:
        """Move, check, compute, sample and retire. Returns the rows that ended."""
        for move in step.moves:
            copied = [self.cells.get(move.source.start + place) for place in range(move.length)]
            for place, cell in enumerate(copied):
                self.cells.pop(move.target.start + place, None)
                if cell is not None:
                    self.cells[move.target.start + place] = cell
        for chunk in step.chunks:
            self._compute(chunk)
        ended = []
        for chunk in step.chunks:
            samples = chunk.samples
            self.planner.advance(chunk)
            if samples:
                chunk.row.tokens.append(SAMPLED)
                if len(chunk.row.tokens) >= chunk.row.max_length:
                    self.planner.remove(chunk.row)
                    ended.append(chunk.row)
        return ended

    def _compute(self, chunk: Chunk) -> None:
        row, region = chunk.row, chunk.row.region
        assert region is not None, "a row without a region computes"
        assert chunk.start == row.num_computed < chunk.stop <= region.capacity
        for place in range(chunk.start):
            expected = (row.owner, tuple(row.tokens[: place + 1]))
            assert self.cells.get(region.start + place) == expected, f"position {place} is not what it should be"
        for place in range(chunk.start, chunk.stop):
            self.cells[region.start + place] = (row.owner, tuple(row.tokens[: place + 1]))

"""What the engine counts. Values only; the engine swaps in a new one after every step."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class EngineStats:
    """Counters since the start, except what is running, waiting and in use now."""

    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    """Positions held by running rows."""
    kv_cached: int = 0
    """Positions kept for the prefixes computed in them; given back when a row needs them."""
    kv_total: int = 0
    steps: int = 0
    busy_s: float = 0.0
    """Seconds spent in forward passes."""
    prompt_tokens: int = 0
    tokens_generated: int = 0
    preemptions: int = 0
    prefix_hits: int = 0
    """Rows that began with a prefix computed before."""
    prefix_tokens_reused: int = 0
    failed_rows: int = 0
    last_distinct_adapters: int = 0
    peak_distinct_adapters: int = 0

    def after_step(self, seconds: float, distinct_adapters: int, prompt_tokens: int, sampled: int) -> EngineStats:
        return replace(
            self,
            steps=self.steps + 1,
            busy_s=self.busy_s + seconds,
            prompt_tokens=self.prompt_tokens + prompt_tokens,
            tokens_generated=self.tokens_generated + sampled,
            last_distinct_adapters=distinct_adapters,
            peak_distinct_adapters=max(self.peak_distinct_adapters, distinct_adapters),
        )

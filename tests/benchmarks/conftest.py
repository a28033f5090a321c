"""A run that never happened: round numbers for every contender and measure."""

from __future__ import annotations

import pytest

from benchmarks.cases import GROUPS
from benchmarks.results import AGAIN, OURS, Results, beside
from serving.bench import CASES

SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}


@pytest.fixture
def results() -> Results:
    """Ours 500 everywhere, every peer 100 or less; every measure well within its bar."""
    peers = {"llama": 100.0, "vllm": 80.0, "peft": 50.0}
    rates = {OURS: 500.0, AGAIN: 510.0} | peers | {beside(peer): 500.0 for peer in peers}
    return Results(
        date="2026-01-02 03:04 UTC",
        machine={"cpu": "Some CPU", "cores": 2, "flags": ["avx512_bf16"], "memory_gib": 24},
        base=SMOLLM2,
        groups=list(GROUPS),
        peers=list(peers),
        quick=False,
        load_before=(0.0, 0.1, 0.2),
        rates={name: {case.name: [rate] for case in CASES} for name, rate in rates.items()},
        limits={"bytes_per_s": 30e9, "operations_per_s": 300e9},
        measures={
            "many": {"lost": 0.02, "peak_bytes": 9e8, "byte_budget": 1e9},
            "cold": {"added_ms": 40.0, "p99_ratio": 1.2},
            "http": {"lost": 0.05},
        },
    )

"""The native stack is the module tree, faster: same hidden states, same cache, whatever stands beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from benchmarks.soak.tiny import write_tiny_base
from registry.settings import Settings
from serving import native
from serving.adapter import LoadedAdapter
from serving.base import Base, load_base
from serving.bench import random_adapter
from serving.delta import Delta, Part
from serving.forward import Forward
from serving.stack import NativeStack, is_walkable, window_of

from .zoo import Zoo, walk

pytestmark = pytest.mark.skipif(native.kernel(torch.float32) is None, reason="no C compiler here")


def forward_of(base: Base, *, natively: bool) -> Forward:
    forward = Forward(base, 8192)
    assert isinstance(forward._stack, NativeStack)
    if not natively:
        forward._stack = None
    return forward


def prompt(row: int) -> list[int]:
    """With the answer, longer than a row's first region."""
    return [5 + row, *range(7, 57)]


def test_the_stack_says_what_the_tree_says(zoo: Zoo) -> None:
    """For every adapter that it can apply: with one that it cannot, the whole step would go through the tree."""
    native, tree = forward_of(zoo.base, natively=True), forward_of(zoo.base, natively=False)
    assert native._stack is not None
    known = [index for index, adapter in enumerate(zoo.adapters) if native._stack.can_apply([adapter])]
    assert len(known) > len(zoo.adapters) / 2
    rows = [(index, prompt(row)) for row, index in enumerate([None, *known, None, known[0]])]
    for fast, slow in zip(walk(native, zoo, rows, 20), walk(tree, zoo, rows, 20), strict=True):
        torch.testing.assert_close(fast[2], slow[2], atol=1e-4, rtol=0)


def test_a_row_is_the_same_beside_any_others(zoo: Zoo) -> None:
    """To the last bit, and however its prompt was cut into chunks."""
    rows = [(index, prompt(row)) for row, index in enumerate([2, *range(4, 9), None])]
    forward = forward_of(zoo.base, natively=True)
    assert forward._stack is not None
    assert forward._stack.can_apply([zoo.adapter(index) for index, _ in rows])
    (alone,) = walk(forward, zoo, rows[:1], 20)
    among = walk(forward_of(zoo.base, natively=True), zoo, rows, 20)[0]
    assert torch.equal(alone[2], among[2])


def test_bands_of_rows_change_no_bit(tmp_path: Path) -> None:
    """Sixteen rows meet a weight at once where there are so many, of prompts and of queries: the numbers stay."""
    directory = write_tiny_base(tmp_path / "tiny", hidden_size=96, heads=6, head_dim=32)
    base = load_base(Settings(base=str(directory), dtype="bfloat16", device="cpu", cache_dir=str(tmp_path), threads=2))
    zoo = Zoo(base, [], [])
    rows = [(None, prompt(row)) for row in range(20)]
    alone = [walk(forward_of(base, natively=True), zoo, [row], 9)[0] for row in rows[:3]]
    among = walk(forward_of(base, natively=True), zoo, rows, 9)
    for one, same in zip(alone, among[:3], strict=True):
        assert torch.equal(one[2], same[2])


def test_threads_that_work_apart_change_no_bit(tmp_path: Path) -> None:
    """Whole bands of tokens for everybody: each thread takes its own through a layer, and waits for others' keys only.

    64 tokens and more, in several slices, on two threads and on one; with adapters, one of which scales inputs.
    """
    directory = write_tiny_base(tmp_path / "tiny", hidden_size=96, heads=6, head_dim=32)
    base = load_base(Settings(base=str(directory), dtype="bfloat16", device="cpu", cache_dir=str(tmp_path), threads=2))
    scaling = random_adapter(base, 4, 1)
    deltas = {
        index: replace(delta, input_gain=torch.full((len(delta.a),), 1.5)) for index, delta in scaling.deltas.items()
    }
    zoo = Zoo(base, [], [random_adapter(base, 8, 2), replace(scaling, deltas=deltas)])
    lengths = ((0, 98), (None, 143), (1, 147), (None, 55), (0, 139))
    rows = [(index, [5 + row, *range(7, 6 + length)]) for row, (index, length) in enumerate(lengths)]
    torch.set_num_threads(1)
    expected = [walk(forward_of(base, natively=True), zoo, [row], 1)[0][2] for row in rows]
    forward = forward_of(base, natively=True)
    try:
        for threads in (1, *[2] * 20, 3, 4):  # again and again: one thread seldom runs far ahead of the other
            torch.set_num_threads(threads)
            for row, (_, _, logits) in enumerate(walk(forward, zoo, rows, 1)):
                assert torch.equal(logits, expected[row])
    finally:
        torch.set_num_threads(1)


def test_keys_are_bounded_in_heads_of_any_width(tmp_path: Path) -> None:
    """Sixteen features at a time, and what is left one by one; both ways out of range."""
    directory = write_tiny_base(tmp_path / "tiny", hidden_size=96, heads=4, head_dim=24)
    base = load_base(Settings(base=str(directory), dtype="bfloat16", device="cpu", cache_dir=str(tmp_path), threads=1))
    site = base.sites[0]
    large = Part(1, 0, 1, torch.full((1, site.out_features[1]), 1e30, dtype=base.dtype))
    down = torch.ones(site.in_features, 1, dtype=base.dtype)
    adapter = LoadedAdapter.make("large", "large", {site.index: Delta(down, (large,))})
    forward = forward_of(base, natively=True)
    ((_, _, logits),) = walk(forward, Zoo(base, [], [adapter]), [(0, prompt(1))], 1)
    assert bool(torch.isfinite(logits).all())
    features = forward._cache.keys[0].view(-1, 24)
    touched = features[features.abs().amax(dim=1) > 1e17]
    assert len(touched) == len(prompt(1)) * 2
    assert torch.equal(touched.abs(), torch.full_like(touched, 1e18))
    assert bool((touched > 0).any())
    assert bool((touched < 0).any())


def test_any_rank_in_bfloat16(tmp_path: Path) -> None:
    """Rows of an adapter meet the input in pairs, columns by sixteens: odd ranks and ragged widths must lose nothing.

    Against the tree, whose sums are rounded to bfloat16 on their way; a number read from beside the adapter, where the
    next one lies, would be far off. The adapter's share is large on purpose.
    """
    directory = write_tiny_base(tmp_path / "tiny", hidden_size=72, heads=6, head_dim=12)
    base = load_base(Settings(base=str(directory), dtype="bfloat16", device="cpu", cache_dir=str(tmp_path), threads=1))
    ranks = (1, 2, 3, 7, 8, 15, 16, 21, 32, 47, 64)
    zoo = Zoo(base, [], [random_adapter(base, rank, rank, std=0.15) for rank in ranks])
    rows = [(index, prompt(row)) for row, index in enumerate(range(len(zoo.adapters)))]
    fast = walk(forward_of(base, natively=True), zoo, rows, 1)
    slow = walk(forward_of(base, natively=False), zoo, rows, 1)
    bare = walk(forward_of(base, natively=True), zoo, [(None, tokens) for _, tokens in rows], 1)
    for one, other, without in zip(fast, slow, bare, strict=True):
        assert _distance(one[2], other[2]) < 0.1
        assert _distance(one[2], without[2]) > 0.5


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


@pytest.mark.parametrize(
    ("kind", "extra", "walkable"),
    [
        ("llama", {}, True),
        ("mistral", {"sliding_window": 16}, True),
        ("qwen2", {}, True),
        ("qwen3", {"head_dim": 16}, True),
        ("llama", {"hidden_act": "gelu"}, False),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, False),
        ("gemma", {"head_dim": 16}, False),
        ("gpt2", {"n_embd": 32, "n_head": 2, "n_layer": 2}, False),
    ],
)
def test_only_known_trees_are_walked(kind: str, extra: dict[str, object], walkable: bool) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = AutoConfig.for_model(
        kind, vocab_size=64, intermediate_size=48, **({} if kind == "gpt2" else sizes) | extra
    )
    tree = AutoModelForCausalLM.from_config(config)
    assert is_walkable(tree, 16) is walkable
    if walkable:
        assert window_of(tree.base_model.layers[0].self_attn) == (16 if kind == "mistral" else None)


def test_only_mistral_keeps_a_window_in_its_config() -> None:
    """A Llama's config may name one, left over from a conversion: no Llama looks at it."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        sliding_window=16,
    )
    tree = AutoModelForCausalLM.from_config(config)
    assert tree.config.sliding_window == 16
    assert window_of(tree.base_model.layers[0].self_attn) is None


def test_room_grows_with_the_threads(zoo: Zoo) -> None:
    """Each thread has scores of its own: more threads than there were when room was made would write beyond it."""
    stack = Forward(zoo.base, 256)._stack
    assert stack is not None
    stack._make_room(4, 2, 1)
    alone = stack._buffers["scores"].numel()
    stack._make_room(2, 1, 3)
    assert stack._buffers["scores"].numel() == 3 * alone
    assert stack._buffers["residual"].numel() == 4 * zoo.base.config.hidden_size, "what was there does not shrink"

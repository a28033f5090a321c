"""The native stack is the module tree, faster: same hidden states, same cache, whatever stands beside."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from serving import native
from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.forward import Forward
from serving.regions import Regions
from serving.row import Row
from serving.scheduler import Scheduler
from serving.stack import NativeStack, is_walkable, window_of

from .conftest import Zoo

pytestmark = pytest.mark.skipif(native.kernel(torch.float32) is None, reason="no C compiler here")


def answers(base: Base, adapters: list[LoadedAdapter | None], *, natively: bool) -> list[torch.Tensor]:
    """Every row's logits over a prompt and a greedy answer of 20 tokens, longer than its first region."""
    forward = Forward(base, 4096)
    assert isinstance(forward._stack, NativeStack)
    if not natively:
        forward._stack = None
    scheduler = Scheduler(Regions(4096), len(adapters), 256)
    rows = [Row([5 + index, *range(7, 57)], 71) for index in range(len(adapters))]
    for row in rows:
        scheduler.add(row)
    seen: dict[Row, list[torch.Tensor]] = {row: [] for row in rows}
    with torch.inference_mode():
        while scheduler.has_work:
            step = scheduler.schedule()
            forward.move(step.moves)
            whose = [adapters[rows.index(chunk.row)] for chunk in step.chunks]
            output = forward(step.chunks, whose, [chunk.start for chunk in step.chunks])
            for chunk, logits in zip(output.chunks, output.logits, strict=True):
                seen[chunk.row].append(logits)
                samples = chunk.samples
                scheduler.advance(chunk)
                if samples:
                    chunk.row.tokens.append(int(logits[-1].argmax()))
                if len(chunk.row.tokens) >= chunk.row.max_length:
                    scheduler.remove(chunk.row)
    return [torch.cat(seen[row]) for row in rows]


def test_the_stack_says_what_the_tree_says(zoo: Zoo) -> None:
    adapters: list[LoadedAdapter | None] = [None, *zoo.adapters, None, zoo.adapters[0]]
    pairs = zip(answers(zoo.base, adapters, natively=True), answers(zoo.base, adapters, natively=False), strict=True)
    for fast, slow in pairs:
        torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


def test_a_row_is_the_same_beside_any_others(zoo: Zoo) -> None:
    """To the last bit, and however its prompt was cut into chunks."""
    alone = answers(zoo.base, [zoo.adapters[2]], natively=True)[0]
    among = answers(zoo.base, [zoo.adapters[2], *zoo.adapters[4:9], None], natively=True)[0]
    assert torch.equal(alone, among)


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
    assert stack._buffers["blocks"].numel() == 5, "what was there does not shrink"

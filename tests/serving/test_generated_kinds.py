"""Whatever PEFT can be told to train, in whatever company: each row is what PEFT alone would give."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.validation import check_adapter, check_folder
from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.forward import Forward
from tests.conftest import LINEARS, write_adapter

from .test_architectures import make_base
from .zoo import Zoo, walk

WHOLE = ("embed_tokens", "lm_head")
ROWS = st.lists(st.tuples(st.integers(-1, 9), st.integers(1, 60)), min_size=1, max_size=9)


def some(names: tuple[str, ...], least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True, min_size=least, max_size=4)


@st.composite
def low_rank(draw: st.DrawFn) -> dict[str, Any]:
    linears = draw(some(LINEARS, least=1))
    whole = draw(some(WHOLE))
    saved = draw(some((*LINEARS, *WHOLE))) if draw(st.booleans()) else []
    targets = [name for name in (*linears, *whole) if name not in saved] or ["gate_proj"]
    saved = [name for name in saved if name not in targets]
    options: dict[str, Any] = {
        "rank": draw(st.integers(1, 9)),
        "alpha": draw(st.sampled_from([1, 4.5, 16])),
        "targets": targets,
        "use_rslora": draw(st.booleans()),
        "rank_pattern": draw(st.dictionaries(st.sampled_from(linears), st.integers(1, 12), max_size=2)),
        "alpha_pattern": draw(st.dictionaries(st.sampled_from([r"layers\.1\..*", "q_proj"]), st.integers(1, 20))),
        "bias": draw(st.sampled_from(["none", "lora_only"] if saved else ["none", "lora_only", "all"])),
        "save_embeddings": not saved and draw(st.booleans()),
    }
    options |= draw(
        st.sampled_from([{}, {"use_dora": True}] if whole else [{}, {"use_dora": True}, {"lora_bias": True}])
    )
    if saved:
        options["modules_to_save"] = saved
    if not set(WHOLE) & {*saved, *targets} and draw(st.booleans()):
        tokens = st.lists(st.integers(0, 258), unique=True, min_size=1, max_size=6)
        options |= {"trainable_token_indices": draw(tokens), "save_embeddings": False}
    if set(targets) & set(LINEARS) and draw(st.booleans()):
        options["layers_to_transform"] = draw(st.lists(st.integers(0, 1), unique=True, min_size=1))
    return options


@st.composite
def scales(draw: st.DrawFn) -> dict[str, Any]:
    targets = draw(some((*LINEARS, "lm_head"), least=1))
    feedforward = [name for name in targets if draw(st.booleans())]
    return {"kind": "ia3", "targets": targets, "feedforward_modules": feedforward}


SOFT = st.builds(lambda count: {"kind": "prompt", "num_virtual_tokens": count}, st.integers(1, 9))
KIND = st.one_of(low_rank(), scales(), SOFT)


@pytest.fixture(scope="module")
def tied_base(tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Biases on every linear, and a head that shares the embedding's weight."""
    return make_base(tiny_base_dir, tmp_path_factory.mktemp("tied") / "base", "Llama")


def check(base: Base, kinds: list[dict[str, Any]], rows: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directories = [Path(scratch) / str(number) for number in range(len(kinds))]
        for seed, (kind, path) in enumerate(zip(kinds, directories, strict=True)):
            write_adapter(base, path, seed=seed, std=0.1, **kind)
            check_adapter(path, check_folder(path), base.profile)
        zoo = Zoo(base, directories, [LoadedAdapter.from_directory(path, base) for path in directories])
        asked = [
            (
                None if index < 0 else index % len(kinds),
                tuple(3 + (7 * place + length) % 250 for place in range(length)),
            )
            for index, length in rows
        ]
        for index, tokens, logits in walk(Forward(base, 4096), zoo, asked, extra=4):
            torch.testing.assert_close(logits, zoo.logits(index, tokens[:-1]), atol=1e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(kinds=st.lists(KIND, min_size=1, max_size=4), rows=ROWS)
def test_any_kinds_in_any_batch(tiny_base: Base, kinds: list[dict[str, Any]], rows: list[tuple[int, int]]) -> None:
    check(tiny_base, kinds, rows)


@settings(max_examples=20, deadline=None)
@given(kinds=st.lists(KIND, min_size=1, max_size=4), rows=ROWS)
def test_any_kinds_on_a_tied_and_biased_base(
    tied_base: Base, kinds: list[dict[str, Any]], rows: list[tuple[int, int]]
) -> None:
    check(tied_base, kinds, rows)

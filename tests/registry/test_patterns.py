"""Names are matched as PEFT matches them, and no pattern that passes is slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Refused
from registry.patterns import check_pattern, ends_with, layer_of, matches, matches_end

MODULES = [f"model.layers.{n}.{leaf}" for n in (0, 1, 11) for leaf in ("self_attn.q_proj", "mlp.up_proj")] + ["lm_head"]
PATTERNS = [
    "q_proj",
    "layers.1.mlp.up_proj",
    r".*layers\.1\..*",
    r"layers\.\d+\.(self_attn|mlp)\.(q|up)_proj",
    r"^model\.layers\.[0-9]+\..*$",
    r"layers\.(?:0|11)\..*",
    ".*_proj",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("module", MODULES)
def test_patterns_match_as_in_peft(pattern: str, module: str) -> None:
    other_utils = pytest.importorskip("peft.utils.other")
    check_pattern(pattern, "here")
    assert matches_end(pattern, module) == (other_utils.get_pattern_key([pattern], module) == pattern)
    assert matches(pattern, module) == bool(other_utils.match_target_against_key(pattern, module))


def test_names_and_layers() -> None:
    assert ends_with("model.layers.0.self_attn.q_proj", ["q_proj"])
    assert not ends_with("model.layers.0.self_attn.q_proj", ["proj", "layers.0"])
    assert layer_of("model.layers.11.mlp.up_proj", None) == layer_of("model.layers.11.mlp.up_proj", "layers") == 11
    assert layer_of("model.layers.11.mlp.up_proj", "h") is layer_of("lm_head", None) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*",
        "(.*)+",
        "a{9}",
        r"(a)\1",
        "(?=a)",
        "a*b*c*d*",
        "x" * 5000,
        "",
        "(a",
        "a b",
        "a\nb",
        "(?P<n>a)",
    ],
)
def test_what_could_be_slow_or_strange_is_refused(pattern: str) -> None:
    with pytest.raises(Refused, match="here holds"):
        check_pattern(pattern, "here")


@given(st.text(alphabet="a.*+?()|[]^$\\d-", max_size=24))
def test_what_passes_is_quick(pattern: str) -> None:
    try:
        check_pattern(pattern, "here")
    except Refused:
        return
    started = time.process_time()
    matches(pattern, "a" * 60 + "b")
    matches_end(pattern, "a" * 60 + "b")
    assert time.process_time() - started < 2

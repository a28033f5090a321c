from __future__ import annotations

from typing import Any

import pytest

from registry.errors import Invalid
from serving.gateway.dialect.prompts import Given, read_prompts


def read(prompt: Any) -> list[Given]:
    return read_prompts(prompt, 10, param="prompt", most=64)


def test_prompts_come_in_four_shapes() -> None:
    assert read("a") == ["a"]
    assert read(["a", "b"]) == ["a", "b"]
    assert read([1, 2]) == [(1, 2)]
    assert read([[1], [2, 3]]) == [(1,), (2, 3)]


@pytest.mark.parametrize("prompt", [[], [10], [0, 10], [-1], [True], [[]], [[1], "a", 3], [1.5], [None], ["a"] * 65])
def test_other_shapes_are_refused(prompt: list[Any]) -> None:
    with pytest.raises(Invalid) as caught:
        read(prompt)
    assert str(caught.value.param).startswith("prompt")

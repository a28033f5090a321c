"""A demo that fails must say at which step, and must not go on."""

from __future__ import annotations

import pytest

from registry.errors import Unavailable
from registry.settings import Settings
from registry.terminal import Terminal
from trainer.demo.narrator import Narrator, StepFailed


@pytest.fixture
def narrator() -> Narrator:
    return Narrator(Terminal(Settings(), as_json=True))


def test_an_error_is_told_with_its_step(narrator: Narrator) -> None:
    with narrator.step("first"):
        narrator.claim(True, "all is well")
    with (
        pytest.raises(StepFailed, match=r"step 2: second failed: the store is away") as caught,
        narrator.step("second"),
    ):
        raise Unavailable("the store is away")
    assert caught.value.exit_code == 1
    assert narrator.claims == ["all is well"]
    assert list(narrator.seconds) == ["first"]


def test_a_claim_that_does_not_hold_ends_the_story(narrator: Narrator) -> None:
    with pytest.raises(StepFailed, match=r"step 1 failed: not true that pigs fly"), narrator.step("first"):
        narrator.claim(False, "pigs fly")
    assert narrator.claims == []

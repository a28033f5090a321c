"""The demo's judge of stale answers must be able to say no."""

from collections.abc import Iterator

import pytest

from trainer.demo.liveness import Liveness
from trainer.demo.traffic import Answer, Question

QUESTION = Question("a", [], "s")


def answer(digest: str, asked: float, answered: float) -> Answer:
    return Answer(QUESTION, asked, answered, digest=digest)


@pytest.fixture
def moved() -> Liveness:
    """`old` until the move between 10 and 11, `new` from there on."""
    ticks: Iterator[float] = iter([10.0, 11.0])
    liveness = Liveness("old", clock=lambda: next(ticks))
    with liveness.moving_to("new"):
        pass
    return liveness


@pytest.mark.parametrize(
    ("digest", "asked", "answered", "stale"),
    [
        ("old", 1.0, 2.0, False),
        ("old", 10.5, 20.0, False),
        ("old", 11.5, 20.0, True),
        ("new", 1.0, 9.0, True),
        ("new", 9.0, 10.5, False),
        ("other", 1.0, 20.0, True),
    ],
)
def test_an_answer_is_stale_when_its_digest_was_live_at_no_moment_of_it(
    moved: Liveness, digest: str, asked: float, answered: float, stale: bool
) -> None:
    assert bool(moved.stale([answer(digest, asked, answered)])) is stale

"""Times and durations as people write them."""

from __future__ import annotations

import pytest

from registry.errors import Invalid
from registry.times import duration, moment, seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1700000000", 1_700_000_000.0),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14T22:13:20", 1_700_000_000.0),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000.0),
        ("2023-11-14", 1_699_920_000.0),
    ],
)
def test_moments(text: str, found: float) -> None:
    assert moment(text) == found


@pytest.mark.parametrize(
    ("text", "found"), [("90", 90.0), ("90s", 90.0), ("15min", 900.0), ("1.5h", 5400.0), ("7d", 604_800.0)]
)
def test_durations(text: str, found: float) -> None:
    assert seconds(text) == found


def test_what_is_neither() -> None:
    for text in ("", "yesterday", "2023-13-01", "nan", "-1", "9" * 13, "9" * 400, "0001-01-01T00:00+14:00"):
        with pytest.raises(Invalid):
            moment(text)
    for text in ("", "soon", "-1h", "1 fortnight"):
        with pytest.raises(Invalid):
            seconds(text)


def test_durations_in_words() -> None:
    assert [duration(each) for each in (-1.0, 0.4, 60.0, 5400.0, 86_400.0)] == ["0 s", "0.4 s", "1 min", "1.5 h", "1 d"]

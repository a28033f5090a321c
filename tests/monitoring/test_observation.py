from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.observation import Observation, decode, encode, prompt_scalars
from registry.errors import Corrupt

texts = st.text('aZ"\\\0é中', max_size=6)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def batches(draw: st.DrawFn) -> list[Observation]:
    width, hidden = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    numbers = st.floats(width=32, allow_nan=False)

    def vector(size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array(draw(st.lists(numbers, min_size=size, max_size=size)), dtype=np.float32)

    return [
        Observation(
            request_id=draw(texts),
            session=draw(texts),
            time=draw(finite),
            adapter=draw(texts),
            version=draw(st.integers(0, 2**40)),
            digest=draw(texts),
            embedding=vector(width),
            hidden=vector(hidden),
            scalars=draw(st.dictionaries(texts, finite, max_size=3)),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: list[Observation]) -> None:
    back = decode(encode(batch))
    assert len(back) == len(batch)
    for before, after in zip(batch, back, strict=True):
        assert (before.request_id, before.session, before.time) == (after.request_id, after.session, after.time)
        assert (before.adapter, before.version, before.digest) == (after.adapter, after.version, after.digest)
        assert before.scalars == after.scalars
        np.testing.assert_array_equal(before.embedding, after.embedding)
        np.testing.assert_array_equal(before.hidden, after.hidden)


def test_one_vector_of_another_width_spoils_only_itself() -> None:
    def make(width: int) -> Observation:
        return Observation(
            request_id="r", session="s", time=0.0, adapter="a", version=1, digest="d",
            embedding=np.ones(width, dtype=np.float32),
        )  # fmt: skip

    assert [each.is_finite() for each in decode(encode([make(4), make(3), make(4)]))] == [True, False, True]


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_corrupt_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(data)


def test_every_truncation_is_noticed() -> None:
    data = encode(
        [
            Observation(
                request_id="r",
                session="s",
                time=0.0,
                adapter="a",
                version=1,
                digest="d",
                embedding=np.ones(4, dtype=np.float32),
                scalars=prompt_scalars(9),
            )
        ]
    )
    for size in range(len(data)):
        with pytest.raises(Corrupt):
            decode(data[:size])

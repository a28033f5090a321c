"""Safetensors read with distrust: what is wrong is refused by name, and nothing else ever comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from registry.errors import Refused
from registry.tensors import CHUNK_BYTES, check_finite, read_header

GOOD = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((4,), np.float16)})


def write(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_reads_what_safetensors_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones((2, 3), np.float32), "b": np.zeros((0, 4), np.int64)}, path, metadata={"format": "pt"})
    tensors = read_header(path)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I64", (0, 4)),
    }
    check_finite(path, tensors)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"{", b"", "not JSON"),
        (b"[]", b"", "not JSON"),
        (b'{"a":\xff}', b"", "not JSON"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"1234", "tensor a has a bad header entry"),
        ({"a": {**entry(0, 4), "code": 1}}, b"1234", "tensor a has a bad header entry"),
        ({"a": entry(0, 4, dtype="F31")}, b"1234", "tensor a has an unknown dtype"),
        ({"a": entry(0, 8)}, b"1234", "tensor a lies outside"),
        ({"a": entry(-4, 0, [1])}, b"1234", "tensor a lies outside"),
        ({"a": entry(4, 0, [1])}, b"1234", "tensor a lies outside"),
        ({"a": entry(0, 4, [-1])}, b"1234", "tensor a lies outside"),
        ({"a": entry(0, 4, [2])}, b"1234", "tensor a has 4 bytes"),
        ({"a": entry(0, 4, [2**40, 2**40])}, b"1234", "tensor a has 4 bytes"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, b"1" * 12, "tensor b overlaps"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, b"1" * 12, "4 bytes before tensor b"),
        ({"a": entry(0, 4)}, b"12345", "1 bytes after the last tensor"),
    ],
)
def test_bad_headers_are_refused_by_name(tmp_path: Path, header: Any, data: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        read_header(write(tmp_path / "x.safetensors", header, data))
    assert "x.safetensors" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"1234567", b"\xff" * 8, (1 << 40).to_bytes(8, "little") + b"{}"])
def test_bad_lengths_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(Refused, match="header length"):
        read_header(path)


@given(position=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(GOOD)))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_never_escapes_as_another_error(tmp_path: Path, position: int, byte: int, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    damaged = bytearray(GOOD)
    damaged[position] = byte
    path.write_bytes(bytes(damaged[: cut or None]))
    try:
        check_finite(path, read_header(path))
    except Refused:
        return


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, dtype: Any, bad: float) -> None:
    path = tmp_path / "x.safetensors"
    values = np.zeros(CHUNK_BYTES // np.dtype(dtype).itemsize + 10, dtype)
    values[:4] = [np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).tiny, -0.0]
    save_file({"good": values, "wrong": values}, path)
    check_finite(path, read_header(path))
    values[-1] = bad
    save_file({"good": np.zeros(3, dtype), "wrong": values}, path)
    with pytest.raises(Refused, match="tensor wrong holds values that are not finite"):
        check_finite(path, read_header(path))


@pytest.mark.parametrize(
    ("bits", "finite"), [(0x7F7F, True), (0x7F80, False), (0xFF80, False), (0x7FC0, False), (0x3F80, True)]
)
def test_bfloat16_is_checked_on_its_bits(tmp_path: Path, bits: int, finite: bool) -> None:
    header = {"t": entry(0, 4, [2], "BF16")}
    path = write(tmp_path / "x.safetensors", header, (0).to_bytes(2, "little") + bits.to_bytes(2, "little"))
    if finite:
        check_finite(path, read_header(path))
    else:
        with pytest.raises(Refused, match="not finite"):
            check_finite(path, read_header(path))

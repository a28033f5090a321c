"""One request's features, and batches of them as bytes. Carries no text and knows no statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.tensors import pack, unpack
from registry.errors import Corrupt

Vector = npt.NDArray[np.float32]
NO_VECTOR: Vector = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """What one answered request looked like.

    `embedding` and `hidden` are means over the prompt's tokens, (hidden,) each; `hidden` may be empty. `scalars` are
    named numbers such as `log_length`; one that was not measured is left out.
    """

    request_id: str
    session: str
    time: float
    adapter: str
    version: int
    digest: str
    embedding: Vector
    hidden: Vector = field(default_factory=lambda: NO_VECTOR)
    scalars: Mapping[str, float] = field(default_factory=dict)

    def is_finite(self) -> bool:
        """Whether the detectors can use it."""
        return bool(self.embedding.size) and bool(np.isfinite(self.embedding).all())


class _Row(msgspec.Struct, frozen=True, array_like=True):
    request_id: str
    session: str
    time: float
    adapter: str
    version: int
    digest: str


def prompt_scalars(num_prompt_tokens: int) -> dict[str, float]:
    """The scalars of a prompt. Reference and live traffic must both use this, or they cannot be compared."""
    return {"log_length": math.log1p(num_prompt_tokens)}


_FORMAT = "lorimer-observations/1"
_rows = msgspec.json.Decoder(list[_Row])
_names = msgspec.json.Decoder(list[str])


def encode(observations: Sequence[Observation]) -> bytes:
    """A batch as safetensors: `embedding` (n, hidden), `hidden`, `scalars` (n, names), the rest in the metadata."""
    names = sorted({name for each in observations for name in each.scalars})
    rows = [_Row(o.request_id, o.session, o.time, o.adapter, o.version, o.digest) for o in observations]
    scalars = [[each.scalars.get(name, math.nan) for name in names] for each in observations]
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "embedding": _stack([each.embedding for each in observations]),
        "hidden": _stack([each.hidden for each in observations]),
        "scalars": np.array(scalars, dtype=np.float64).reshape(len(observations), len(names)),
    }
    metadata = {
        "format": _FORMAT,
        "rows": msgspec.json.encode(rows).decode(),
        "scalars": msgspec.json.encode(names).decode(),
    }
    return pack(arrays, metadata)


def decode(data: bytes, what: str = "observation batch") -> list[Observation]:
    """The batch back, in the order it was written; Corrupt when it is damaged."""
    arrays, metadata = unpack(data, what)
    try:
        if metadata["format"] != _FORMAT:
            raise Corrupt(f"{what} has the unknown format {metadata['format']!r}")
        rows, names = _rows.decode(metadata["rows"]), _names.decode(metadata["scalars"])
        embedding, hidden = arrays["embedding"].astype(np.float32), arrays["hidden"].astype(np.float32)
        scalars = arrays["scalars"].astype(np.float64)
        if not len(rows) == len(embedding) == len(hidden) == len(scalars) or scalars.shape[1] != len(names):
            raise Corrupt(f"{what} holds tables of different lengths")
    except (KeyError, IndexError, msgspec.DecodeError) as error:
        raise Corrupt(f"{what} lacks a table: {error}") from error
    measured = [
        {name: float(value) for name, value in zip(names, row, strict=True) if not math.isnan(value)} for row in scalars
    ]
    return [
        Observation(
            request_id=row.request_id,
            session=row.session,
            time=row.time,
            adapter=row.adapter,
            version=row.version,
            digest=row.digest,
            embedding=embedding[i],
            hidden=hidden[i],
            scalars=measured[i],
        )
        for i, row in enumerate(rows)
    ]


def _stack(vectors: Sequence[Vector]) -> npt.NDArray[np.float32]:
    """(n, width); a vector of another width becomes NaN, so that one odd row cannot spoil its batch."""
    width = max((vector.size for vector in vectors), default=0)
    table = np.full((len(vectors), width), np.nan, dtype=np.float32)
    for row, vector in zip(table, vectors, strict=True):
        if vector.size == width:
            row[:] = vector
    return table

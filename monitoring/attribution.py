"""What drifted: an explanation of an alarm for people. Describes; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.reference import Reference

Array = npt.NDArray[np.float64]

MISROUTE_RATIO = 0.6
"""Another adapter's normal input must be this much nearer than our own to be named."""


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """`distances` of the drifted mean from each adapter's normal input, own included, nearest first."""

    distances: dict[str, float] = {}
    misrouted_from: str | None = None
    summary: str = ""


def attribute(
    adapter: str, current_mean: Array, references: Mapping[str, Reference], channels: Mapping[str, float]
) -> Attribution:
    """Compare the recent mean (D,) with the references of all adapters on the same basis; `adapter` is among them."""
    own = references[adapter]
    distances = {
        name: float(np.linalg.norm(current_mean - reference.mu))
        for name, reference in references.items()
        if reference.basis_sha256 == own.basis_sha256
    }
    nearest = min(distances, key=lambda name: (distances[name], name))
    misrouted = nearest if nearest != adapter and distances[nearest] <= MISROUTE_RATIO * distances[adapter] else None
    ranked = sorted(distances.items(), key=lambda item: (item[1], item[0]))
    return Attribution(
        distances={name: round(distance, 4) for name, distance in ranked},
        misrouted_from=misrouted,
        summary=_summary(adapter, channels, misrouted),
    )


_CHANNELS = {"phi": "what the inputs are about"}


def _summary(adapter: str, channels: Mapping[str, float], misrouted: str | None) -> str:
    leading = max(channels, key=lambda name: (channels[name], name), default="phi")
    direction = {"+": "larger", "-": "smaller"}.get(leading[-1])
    what = _CHANNELS.get(leading) or f"{leading[:-1]} is {direction} than in training"
    told = f"{adapter}: {what} ({channels.get(leading, 0.0):.0%} of the evidence)"
    return f"{told}; it looks like {misrouted}'s traffic" if misrouted else told

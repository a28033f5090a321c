"""Moments and durations as people write them, and back. Always UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from registry.errors import Invalid

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>s|min|h|d)?")


def moment(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 time (`2026-11-23`, `2026-11-23T09:30`, `...+02:00`), or of such seconds."""
    try:
        found = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else _iso(text)
        datetime.fromtimestamp(found, UTC)
    except (ValueError, OverflowError, OSError):
        found = math.nan
    if not math.isfinite(found):
        raise Invalid(f"{text!r} is not a time", hint="write 2026-11-23T09:30Z, or seconds since 1970", param="time")
    return found


def seconds(text: str) -> float:
    """`90`, `90s`, `15min`, `24h` or `7d`."""
    if (match := _DURATION.fullmatch(text.strip())) is None:
        raise Invalid(f"{text!r} is not a duration", hint="write 90s, 15min, 24h or 7d", param="duration")
    return float(match["number"]) * _UNITS[match["unit"] or "s"]


def duration(seconds_: float) -> str:
    """`3 h`."""
    unit = next((unit for unit in ("d", "h", "min") if seconds_ >= _UNITS[unit]), "s")
    return f"{max(0.0, seconds_) / _UNITS[unit]:.3g} {unit}"


def _iso(text: str) -> float:
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()

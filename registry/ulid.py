"""Names that sort by time: 26 characters, Crockford base 32, 48 bits of milliseconds and 80 random bits."""

from __future__ import annotations

import random

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_system = random.SystemRandom()


def ulid(time_s: float, rng: random.Random | None = None) -> str:
    value = (int(time_s * 1000) << 80) | (rng or _system).getrandbits(80)
    return "".join(ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def time_of(name: str) -> float:
    """When a name was made, in seconds."""
    value = 0
    for character in name[:10]:
        value = value << 5 | ALPHABET.index(character)
    return value / 1000

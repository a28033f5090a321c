"""JSON that proves its own bytes: `sum` is the sha256 of all of them while `sum` is still empty.

It tells damage from what was written. It is no signature: whoever can write can also seal.
"""

from __future__ import annotations

import msgspec

from registry.canonical import canonical, sha256
from registry.errors import Invalid


class Stamp(msgspec.Struct):
    """What can be read of an event of any format."""

    v: int = 1
    sum: str | msgspec.UnsetType = msgspec.UNSET


read_stamp = msgspec.json.Decoder(Stamp).decode


def seal(value: msgspec.Struct) -> bytes:
    """The canonical bytes of a struct that has a field `sum`, with that field filled in."""
    data = canonical(msgspec.structs.replace(value, sum=""))
    before, _, after = data.rpartition(_field(""))
    return before + _field(sha256(data)) + after


def is_whole(data: bytes, stated: str) -> bool:
    """Whether `data` has the sum it states."""
    before, found, after = data.rpartition(_field(stated))
    return bool(found) and sha256(before + _field("") + after) == stated


def payload(data: bytes) -> bytes:
    """What the signatures of a stored event are over; Invalid where its bytes could be read in two ways."""
    fields = msgspec.json.decode(data)
    if canonical(fields) != data:
        raise Invalid("an event that is signed is canonical")
    return canonical({name: value for name, value in fields.items() if name not in ("sig", "sum")})


def _field(value: str) -> bytes:
    return b'"sum":"%s"' % value.encode()

"""Fields that a request has only so that they are refused by name: which, and what the document says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from serving.gateway.wire.unsupported import HARMLESS

SUFFIX = "Unsupported"
"""Of the names of the classes that such fields are declared in."""


def refused(kind: type) -> Mapping[str, dict[str, Any]]:
    """Field -> what its schema says beside its type."""
    return {name: {"description": _words(name), "x-refused": True} for name in _fields(kind)}


def _fields(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        if each.__name__.endswith(SUFFIX):
            yield from each.__annotations__


def _words(name: str) -> str:
    harmless = [f"`{msgspec.json.encode(value).decode()}`" for value in HARMLESS.get(name, ())]
    return f"Not supported: refused, unless it is {' or '.join(['null', *harmless])}."

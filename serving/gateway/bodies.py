"""Request bodies: bytes to a validated struct. Whatever is wrong with them becomes one Invalid naming the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from registry.errors import Invalid

T = TypeVar("T")

MAX_VALUES = 1 << 18
"""Commas, to be exact. Decoding a million values would hold everybody up for a fifth of a second."""

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")


def parse(body: bytes, kind: type[T]) -> T:
    """The body as a `kind`; Invalid with `param` for anything that is not one."""
    if body.count(b",") > MAX_VALUES:
        raise Invalid(f"the body holds more than {MAX_VALUES:,} values", code="invalid_value")
    try:
        return msgspec.json.decode(body.decode("utf-8"), type=kind)
    except UnicodeDecodeError as error:
        raise Invalid(f"the body is not valid UTF-8 (byte {error.start})", code="invalid_json") from error
    except RecursionError as error:
        raise Invalid("the body is nested too deeply", code="invalid_json") from error
    except msgspec.ValidationError as error:
        raise Invalid(_readable(str(error)), param=_param(str(error)), code="invalid_value") from error
    except msgspec.DecodeError as error:
        raise Invalid(f"the body is not valid JSON: {error}", code="invalid_json") from error


def _param(message: str) -> str | None:
    """The field a msgspec message speaks of, as a path: `messages[0].content`."""
    path = found["path"] if (found := _PATH.search(message)) else ""
    if missing := _MISSING.search(message):
        return f"{path}.{missing['name']}" if path else missing["name"]
    return path or None


def _readable(message: str) -> str:
    found = _PATH.search(message)
    text = _PATH.sub("", message)
    return f"{text} at {found['path']}" if found and found["path"] else text

"""Whether a file is JSON Lines: on every line an object, in UTF-8. Knows nothing of what a row must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from registry.errors import Invalid

MAX_LINE_BYTES = 1 << 20
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def check_lines(path: Path) -> int:
    """How many rows there are; empty lines are none. Invalid names the first line that is wrong."""
    num_rows, number = 0, 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _wrong(number, f"it is longer than {MAX_LINE_BYTES:,} bytes")
            if line.strip():
                _check(line, number)
                num_rows += 1
    if not num_rows:
        raise Invalid("the file holds no rows", hint="upload JSON Lines", param="file", code="invalid_file")
    return num_rows


def _check(line: bytes, number: int) -> None:
    try:
        _decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _wrong(number, f"it is not valid UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise _wrong(number, "it is nested too deeply") from error
    except msgspec.DecodeError as error:
        raise _wrong(number, str(error)) from error


def _wrong(number: int, why: str) -> Invalid:
    return Invalid(f"line {number} is not a JSON object: {why}", param="file", code="invalid_file")

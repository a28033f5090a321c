"""Takes out of texts what must not be kept, before anything keeps them. Knows no store.

Built in are patterns for what looks alike everywhere. For names, addresses and the like there is the setting
`redactor`: a function of yours, str -> str, that every captured text goes through after them. One that raises keeps
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Literal, get_args

import msgspec

from registry.captures.records import FeedbackRecord, Record
from registry.errors import Invalid

Kind = Literal["email", "phone", "card", "secret"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Redactor = Callable[[str], str]

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ().\-/]{0,2}\d){6,18}(?![\w])")
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
    r"|(?<![\w-])(?=[\w-]{11,}+\.[\w-]{8,}+\.)(?:[\w-]*-)?eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*+"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
    r"|\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{30,}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bA(?:KI|SI)A[0-9A-Z]{16}\b|\bAIza[\w-]{35}"
    r"|(?<=://)[^\s/:@]{1,128}:[^\s/@]{1,256}(?=@)"
    r"|(?i:(?<=bearer )|(?<=password: )|(?<=password=)|(?<=api_key=)|(?<=token=))[^\s\"',;&]{6,}",
    re.DOTALL,
)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAMES = frozenset({"role", "type", "id", "tool_call_id"})
"""Fields of messages that hold no text of anybody."""
_FREE = frozenset({"arguments", "parameters"})
"""Fields of calls and tools within which those names may stand for anything."""


class Redaction:
    """The built-in patterns of these kinds, then a function of the operator's own. What raises is not to be kept.

    A kind that is not known here is refused: a newer program's policy must not be obeyed by half.
    """

    def __init__(self, kinds: Iterable[Kind], own: Redactor | None = None) -> None:
        self._kinds = frozenset(kinds)
        if unknown := self._kinds.difference(KINDS):
            raise Invalid(f"cannot redact {', '.join(sorted(unknown))}", hint=f"there is {', '.join(KINDS)}")
        self._own = own

    def text(self, text: str) -> str:
        if "secret" in self._kinds:
            text = _SECRETS.sub("[secret]", text)
        if "email" in self._kinds:
            text = _EMAIL.sub("[email]", text)
        if self._kinds & {"card", "phone"}:
            text = _DIGITS.sub(self._number, text)
        if self._own is not None:
            text = self._own(text)
            if not isinstance(text, str):
                raise TypeError(f"the redactor gave a {type(text).__name__}, not a str")
        return text

    def record(self, record: Record) -> Record:
        """The same with every text in it redacted."""
        if isinstance(record, FeedbackRecord):
            correction = None if record.correction is None else self.text(record.correction)
            return msgspec.structs.replace(record, correction=correction)
        return msgspec.structs.replace(
            record,
            messages=self._value(record.messages),
            prompt=None if record.prompt is None else self.text(record.prompt),
            response=self.text(record.response),
            others=tuple(self.text(each) for each in record.others),
            tools=self._value(record.tools),
        )

    def _value(self, value: Any, within: str = "") -> Any:
        """`within`: the free field that it is part of. Of arguments, names and numbers are somebody's words as well."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(key) if within == "arguments" else key: each
                if key in _NAMES and not within
                else self._value(each, within or (key if key in _FREE else ""))
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._value(each, within) for each in value]
        if within == "arguments" and isinstance(value, int | float) and not isinstance(value, bool):
            return value if (text := self.text(str(value))) == str(value) else text
        return value

    def _number(self, match: re.Match[str]) -> str:
        """A number with separators: a card if its check digit is right, a phone if it looks written as one."""
        written = match[0]
        digits = re.sub(r"\D", "", written)
        if "card" in self._kinds and 13 <= len(digits) <= 19 and _passes_luhn(digits):
            return "[card]"
        looks = len(digits) >= 10 or len(digits) < len(written)
        if "phone" in self._kinds and len(digits) <= 15 and looks and not _ISO_DATE.fullmatch(written):
            return "[phone]"
        return written


def read_redactor(path: str) -> Redactor | None:
    """The function that `package.module:function` names; None for an empty path."""
    if not path:
        return None
    module, colon, name = path.partition(":")
    try:
        found = getattr(import_module(module), name) if colon and module and name else None
    except (ImportError, AttributeError) as error:
        raise Invalid(f"redactor {path!r} cannot be had: {error}", param="redactor") from error
    if not callable(found):
        raise Invalid(f"redactor {path!r} names no function", hint="write package.module:function", param="redactor")
    return found  # type: ignore[no-any-return]


def _passes_luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0

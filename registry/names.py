"""Names people type: adapters, aliases, tenants, and `tenant/adapter@selector` references. Reads no store."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.errors import Invalid

DEFAULT_ALIAS = "prod"
MIN_DIGEST = 6
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
"""What names of adapters, tenants and aliases look like."""
_NAME = re.compile(NAME)
_NUMBER = re.compile(r"v([1-9][0-9]{0,17})")
_DIGEST = re.compile(r"sha256:([0-9a-f]{6,64})")


@dataclass(frozen=True)
class Alias:
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Number:
    n: int

    def __str__(self) -> str:
        return f"v{self.n}"


@dataclass(frozen=True)
class Digest:
    """A whole sha256 or a unique beginning of one, six hex digits at least."""

    hex: str

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


Selector = Alias | Number | Digest


@dataclass(frozen=True)
class ModelRef:
    tenant: str | None
    adapter: str
    selector: Selector

    def __str__(self) -> str:
        return f"{self.tenant + '/' if self.tenant else ''}{self.adapter}@{self.selector}"


def parse_ref(text: str) -> ModelRef:
    """`adapter`, `adapter@alias`, `adapter@v3`, `adapter@sha256:1f2e3d`, each with an optional `tenant/` before."""
    path, at, selector = text.partition("@")
    tenant, slash, adapter = path.rpartition("/")
    if slash:
        check_name(tenant, "tenant")
    return ModelRef(
        tenant=tenant if slash else None,
        adapter=check_name(adapter, "adapter"),
        selector=parse_selector(selector) if at else Alias(DEFAULT_ALIAS),
    )


def parse_selector(text: str) -> Selector:
    if number := _NUMBER.fullmatch(text):
        return Number(int(number[1]))
    if digest := _DIGEST.fullmatch(text):
        return Digest(digest[1])
    return Alias(check_alias(text))


def check_name(text: str, what: str) -> str:
    if not _NAME.fullmatch(text):
        raise Invalid(
            f"not a valid {what} name: {text[:100]!r}",
            hint="use 1 to 64 of a-z 0-9 . _ - and start with a letter or digit",
            param=what,
        )
    return text


def check_alias(text: str) -> str:
    if _NUMBER.fullmatch(text) or text == "sha256":
        raise Invalid(f"{text!r} cannot be an alias: it would read as a version", param="alias")
    return check_name(text, "alias")

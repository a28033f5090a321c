"""Who may do what with one adapter, and what a version needs before an alias may point at it. Data, and its checks.

Names stand for public keys (`keys`); what no rule allows is for owners only. How an event is judged by rules is in
`judging`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from registry.canonical import canonical, sha256
from registry.errors import Invalid
from registry.names import check_alias
from registry.signing import check_key_id, short

ANY_ALIAS = "*"
SUITE_TAG = "suite/"
"""A version says by a tag which rows its metrics were measured on: `suite/<set>` = sha256."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Bound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    min: float | None = None
    max: float | None = None

    def allows(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        sides = [
            f"at least {self.min:g}" if self.min is not None else "",
            f"at most {self.max:g}" if self.max is not None else "",
        ]
        return " and ".join(side for side in sides if side)


class AliasRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`signers` may move the alias, to versions that have all the rest."""

    signers: tuple[str, ...] = ()
    reviews: Count = 0
    """How many reviewers must have approved the version; whoever published it does not count."""
    suites: dict[str, str] = {}
    """Set -> sha256 of the rows that the version must have been measured on."""
    metrics: dict[str, Bound] = {}

    @property
    def needs(self) -> list[str]:
        """What a version needs, in words."""
        reviews = [f"{self.reviews} review{'s' if self.reviews > 1 else ''}"] if self.reviews else []
        suites = [f"rows {rows[:12]} as {name}" for name, rows in sorted(self.suites.items())]
        return [*reviews, *suites, *(f"{metric} {bound}" for metric, bound in sorted(self.metrics.items()))]


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    keys: dict[str, str]
    """Name -> public key."""
    owners: tuple[str, ...]
    """May do everything, new rules included."""
    owners_needed: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """How many owners must agree on new rules."""
    publishers: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    aliases: dict[str, AliasRule] = {}
    """`*` is for aliases without a rule of their own."""

    def names_of(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Who signed, as far as these rules name them."""
        known = {key: name for name, key in self.keys.items()}
        return tuple(known[key] for key in keys if key in known)

    def alias_rule(self, alias: str) -> AliasRule:
        return self.aliases.get(alias) or self.aliases.get(ANY_ALIAS) or AliasRule()

    @property
    def digest(self) -> str:
        """What an owner approves who agrees on these rules."""
        return "sha256:" + sha256(canonical(self))

    def check(self) -> None:
        """Invalid unless the rules can be followed and changed again."""
        for key in self.keys.values():
            check_key_id(key)
        if len(set(self.keys.values())) < len(self.keys):
            raise Invalid("bad rules: one key has two names", hint="one person, one key", param="keys")
        if not self.owners or len(self.owners) < self.owners_needed:
            raise Invalid(f"bad rules: {len(self.owners)} owners, {self.owners_needed} needed", param="owners")
        named = {"owners": self.owners, "publishers": self.publishers, "reviewers": self.reviewers}
        named |= {f"aliases.{alias}.signers": rule.signers for alias, rule in self.aliases.items()}
        for where, names in named.items():
            if unknown := sorted(set(names) - set(self.keys)):
                raise Invalid(f"bad rules: {where} names {', '.join(unknown)}, not among the keys", param=where)
            if len(set(names)) < len(names):
                raise Invalid(f"bad rules: {where} names somebody twice", param=where)
        for alias, rule in self.aliases.items():
            self._check_alias(alias, rule)

    def _check_alias(self, alias: str, rule: AliasRule) -> None:
        if alias != ANY_ALIAS:
            check_alias(alias)
        if rule.reviews > len(set(self.reviewers) | set(self.owners)):
            raise Invalid(f"bad rules: {alias} needs {rule.reviews} reviews, more than there are reviewers")
        for metric, bound in rule.metrics.items():
            if bound == Bound() or not all(math.isfinite(side) for side in (bound.min, bound.max) if side is not None):
                raise Invalid(f"bad rules: {alias} bounds {metric!r} by nothing", hint="give it a finite min or max")


def read_rules(path: Path) -> Rules:
    """Rules from a TOML file, checked; an unknown key is an error."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not TOML: {error}") from error
    return to_rules(values)


def to_rules(values: dict[str, Any]) -> Rules:
    try:
        rules = msgspec.convert(values, Rules)
    except msgspec.ValidationError as error:
        raise Invalid(f"bad rules: {error}") from error
    rules.check()
    return rules


def signed_by(rules: Rules | None, keys: Iterable[str]) -> str:
    """Who signed, by name where rules give one."""
    names = {} if rules is None else {key: name for name, key in rules.keys.items()}
    return ", ".join(names.get(key, short(key)) for key in keys)

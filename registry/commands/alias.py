"""`lorimer registry alias | rollback`: which version a name means. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
import msgspec

from registry.adapters import open_registry
from registry.commands.version import version_record
from registry.errors import Invalid
from registry.terminal import Terminal, command, key_value
from registry.versions import AdapterState, Expected

NOTHING = "none"
EXPECT = "Move only if the alias stands here now: v2, a digest, v8=5,v7=95, or none (not set)."


@click.command()
@click.argument("name")
@click.argument("alias")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--expect", help=EXPECT)
@click.option("--reason", default="", help="Recorded in the log.")
@command
def alias(
    terminal: Terminal, *, name: str, alias: str, targets: tuple[str, ...], expect: str | None, reason: str
) -> None:
    """Point ALIAS of adapter NAME to TARGET: v2, a digest, another alias, or `none` to remove it.

    Several targets with weights share the traffic; exits 4 and says where the alias stands when
    --expect does not hold.

    \b
    lorimer registry alias support prod v7
    lorimer registry alias support prod v8=5 v7=95 --expect v7
    """
    opened = open_registry(terminal.settings)
    event = opened.alias(name, alias, _standing(targets), expect=_expected(expect), reason=reason)
    words = standing_in_words(opened.state(name), alias)
    terminal.result(msgspec.to_builtins(event), f"{name}@{alias} -> {words} (event {event.n})")


@click.command()
@click.argument("name")
@click.option("--alias", default="prod", show_default=True, help="Which alias.")
@click.option("--expect", help=EXPECT)
@click.option("--reason", default="", help="Recorded in the log.")
@command
def rollback(terminal: Terminal, *, name: str, alias: str, expect: str | None, reason: str) -> None:
    """Put an alias back to where it stood before, as the log tells it. Again: one further back.

    Versions deleted or quarantined since are passed over. With --expect it goes back from there
    only, so that it may be repeated when nobody knows whether it was done.
    """
    opened = open_registry(terminal.settings)
    version = opened.rollback(name, alias, reason, expect=_expected(expect))
    words = standing_in_words(opened.state(name), alias)
    terminal.result(version_record(version), f"{name}@{alias} -> {words} {version.digest}")


def standing_in_words(state: AdapterState, alias: str) -> str:
    """`v7`, or `v7 95% v8 5%`."""
    standing = state.standing(alias)
    numbers = {digest: f"v{found.number}" for digest in standing if (found := state.find(digest))}
    if len(standing) == 1:
        return next(iter(numbers.values()))
    ordered = sorted(standing, key=lambda digest: -standing[digest])
    return " ".join(f"{numbers[digest]} {100 * standing[digest]:.3g}%" for digest in ordered) or NOTHING


def _expected(words: str | None) -> Expected:
    return msgspec.UNSET if words is None else _standing(words.split(","))


def _standing(words: Sequence[str]) -> str | Mapping[str, float] | None:
    """One target, several as `v8=5 v7=95`, or none."""
    if len(words) == 1 and "=" not in words[0]:
        return None if words[0] == NOTHING else words[0]
    pairs = [key_value(word) for word in words]
    if len({target for target, _ in pairs}) < len(pairs):
        raise Invalid(f"{' '.join(words)} names a target twice", param="target")
    try:
        return {target: float(weight) for target, weight in pairs}
    except ValueError as error:
        raise Invalid(
            f"{' '.join(words)}: a weight is not a number", hint="write v8=5 v7=95", param="target"
        ) from error

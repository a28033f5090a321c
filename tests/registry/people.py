"""People with keys around one store, and a thief who holds the bucket's credentials but no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from registry.adapters import Registry
from registry.canonical import canonical
from registry.consent import set_rules
from registry.log import Event
from registry.ops import Op
from registry.rules import AliasRule, Rules
from registry.signing import SigningKey, new_key
from registry.store import Store
from registry.trust import Trust
from registry.versions import AdapterState
from tests.registry.folders import PROFILE, write_folder

NAMES = ("root", "ada", "worker", "bob", "eve")


class Credulous(Trust):
    """Writes whatever it is told, as somebody does who has a program of their own."""

    def admit(self, state: AdapterState, event: Event[Op]) -> None:
        pass

    def check(self, state: AdapterState) -> None:
        pass


class People:
    """`root` is trusted by every reader; `ada` owns, `worker` publishes and moves prod, `bob` and `eve` review."""

    def __init__(self, store: Store, work: Path) -> None:
        self.store = store
        self.work = work
        work.mkdir(exist_ok=True)
        self.keys = {name: new_key(work / f"{name}.key") for name in NAMES}
        self.roots = frozenset({self.keys["root"].id})
        self.seed = 0
        Registry(store).register_base(PROFILE)

    def key(self, name: str) -> SigningKey:
        return self.keys[name]

    def as_(self, name: str | None = None, **options: Any) -> Registry:
        """A fresh process of somebody who trusts the root; without a name, a reader."""
        key = self.keys[name] if name else None
        return Registry(self.store, actor=name or "reader", trust=Trust(key, self.roots), **options)

    def without_roots(self, name: str | None = None, **options: Any) -> Registry:
        """A process that has no trusted_keys."""
        return Registry(self.store, actor=name or "reader", trust=Trust(self.keys[name] if name else None), **options)

    def thief(self, key: SigningKey | None = None, **options: Any) -> Registry:
        return Registry(self.store, actor="thief", trust=Credulous(key), **options)

    def rules(self, **changed: Any) -> Rules:
        values: dict[str, Any] = {
            "keys": {name: self.keys[name].id for name in NAMES if name != "root"},
            "owners": ("ada",),
            "publishers": ("worker",),
            "reviewers": ("bob", "eve"),
            "aliases": {"prod": AliasRule(signers=("worker",)), "*": AliasRule(signers=("worker", "bob"))},
        }
        return Rules(**(values | changed))

    def govern(self, name: str = "support", **changed: Any) -> None:
        """The first rules, signed by the root."""
        self.as_("root").commit(name, set_rules(self.rules(**changed)), create=True)

    def folder(self) -> Path:
        """A valid adapter unlike those before."""
        self.seed += 1
        return write_folder(self.work / f"adapter-{self.seed}", seed=self.seed)


def rewrite(store: Store, key: str, **changes: Any) -> None:
    """Change a stored JSON object; it carries no sum any more, as the oldest events do."""
    values = msgspec.json.decode(store.get(key)) | changes
    values.pop("sum", None)
    store.put(key, canonical(values))


def readers(people: People) -> list[Registry]:
    """Fresh processes: with roots and without."""
    return [people.as_(), people.without_roots()]


def slot(n: int) -> str:
    """Where the event of that number of `support` lies."""
    return f"t/default/a/support/log/{n:020d}.json"

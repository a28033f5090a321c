"""Those who use a registry all at once: publishers, promoters, deleters, readers, collectors, compactors.

A client takes one random step at a time and writes down what it asked and what it was told. It knows neither
whether it lives in a simulation or in a process of its own, nor that it may be killed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from registry import gc
from registry.adapters import Registry
from registry.canonical import sha256_of
from registry.errors import Conflict, LorimerError, NotFound, Unavailable
from registry.versions import Expected, Version
from tests.registry.linear import TAG, Call

ALIASES = ("prod", "canary")


@dataclass(kw_only=True)
class Client:
    """`registry` is opened by whoever runs the client. `record` is called when a call starts and when it returns."""

    name: str
    registry: Registry
    rng: random.Random
    now: Callable[[], float]
    record: Callable[[Call], None]
    folders: Sequence[Path]
    adapters: Sequence[str]
    num_calls: int = 0

    def step(self, role: str) -> None:
        ROLES[role](self, self.rng.choice(self.adapters))

    def call(self, verb: str, adapter: str, work: Callable[[Call], None], alias: str = "") -> None:
        """Run `work` and remember how it ended. What the registry refused it has not done; silence says nothing."""
        self.num_calls += 1
        call = Call(id=f"{self.name}.{self.num_calls}", verb=verb, adapter=adapter, started=self.now(), alias=alias)
        self.record(call)
        try:
            work(call)
            call.outcome = "ok"
        except Unavailable as error:
            call.said = str(error)
        except LorimerError as error:
            call.outcome, call.said = "forbidden", str(error)
        call.ended = self.now()
        self.record(call)

    def belief(self, adapter: str, alias: str) -> Expected:
        """What to say that an alias holds: mostly what it just held, sometimes whatever it holds."""
        if self.rng.random() < 0.3:
            return msgspec.UNSET
        try:
            return self.registry.state(adapter).standing(alias)
        except NotFound:
            return None


def publish(client: Client, adapter: str) -> None:
    """Every publication is a version of its own: it carries the id of its call. Files repeat."""
    alias, folder = client.rng.choice((None, *ALIASES)), client.rng.choice(client.folders)

    def work(call: Call) -> None:
        aliases = {} if alias is None else {alias: client.belief(adapter, alias)}
        try:
            client.registry.publish(adapter, folder, tags={TAG: call.id}, aliases=aliases, reason=call.id)
        except Conflict as error:
            if "just published" in error.message:
                raise Unavailable(f"done, and undone by somebody else: {error}") from error
            raise

    client.call("publish", adapter, work)


def promote(client: Client, adapter: str) -> None:
    """Move an alias to one version or to two by weight, put it back, or remove it."""
    alias, luck = client.rng.choice(ALIASES), client.rng.random()

    def work(call: Call) -> None:
        if luck < 0.2:
            client.registry.rollback(adapter, alias, reason=call.id)
            return
        expect = client.belief(adapter, alias)
        versions = client.registry.state(adapter).versions[-4:]
        chosen = client.rng.sample(versions, min(len(versions), 2 if luck < 0.4 else 1))
        weights = {version.digest: client.rng.choice((1.0, 3.0)) for version in chosen}
        target = None if luck > 0.9 or not weights else weights
        client.registry.alias(adapter, alias, target, expect=expect, reason=call.id)

    client.call("move", adapter, work)


def delete(client: Client, adapter: str) -> None:
    def work(call: Call) -> None:
        state = client.registry.state(adapter)
        free = [version for version in state.versions if not state.aliases_of(version.digest)]
        if not free:
            raise NotFound("nothing to delete")
        client.registry.delete(adapter, client.rng.choice(free).digest, reason=call.id)

    client.call("delete", adapter, work)


def read(client: Client, adapter: str) -> None:
    """Resolve, then read every blob, as a gateway does."""
    alias = client.rng.choice(ALIASES)
    found: list[Version] = []

    def work(call: Call) -> None:
        try:
            found.append(client.registry.resolve(f"{adapter}@{alias}"))
        except NotFound:
            return
        call.digest = found[0].digest

    client.call("read", adapter, work, alias)
    for version in found:
        check_blobs(client.registry, version)


def check_blobs(registry: Registry, version: Version) -> None:
    """Only of a version that is deleted by now may a blob be gone; wrong it may never be."""
    for entry in version.manifest.files:
        key = version.blob_key(entry.sha256)
        try:
            found = sha256_of(registry.store.chunks(key))
        except Unavailable:
            return
        except NotFound:
            found = None
        gone = found is None and registry.state(version.adapter).find(version.digest) is None
        assert gone or found == (entry.sha256, entry.size), f"{version.name} is live, and {key} is wrong or missing"


def browse(client: Client, adapter: str) -> None:
    """List everything; it must hold at least what was acknowledged before."""

    def work(call: Call) -> None:
        rows = {row.adapter: row for row in client.registry.list()}
        call.seen = rows[adapter].events if adapter in rows else 0

    client.call("list", adapter, work)


def collect(client: Client, adapter: str) -> None:
    """With no grace: what nobody needs at this moment goes."""

    def work(_: Call) -> None:
        gc.collect(client.registry, [adapter], grace_s=0)

    client.call("collect", adapter, work)


def compact(client: Client, adapter: str) -> None:
    def work(_: Call) -> None:
        client.registry.catalog.compact()

    client.call("compact", adapter, work)


ROLES: dict[str, Callable[[Client, str], None]] = {
    "publisher": publish,
    "promoter": promote,
    "deleter": delete,
    "reader": read,
    "browser": browse,
    "collector": collect,
    "compactor": compact,
}

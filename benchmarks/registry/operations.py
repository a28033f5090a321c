"""Our registry's operations, timed and counted on one store. Knows nothing of other registries.

Only the registry: events without blobs are committed, as the peers register versions without artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from registry.adapters import Registry
from registry.manifest import BaseIdentity, FileEntry, Manifest
from registry.ops import Publish
from registry.store import Store

ROUNDS, MODELS, LISTS = 20, 200, 5
BASE = BaseIdentity(id="base", weights_sha256="w", tokenizer_sha256="t", template_sha256="c", shape_sha256="s")


class CountedStore(Store, Protocol):
    requests: int


@dataclass
class Found:
    """Operation -> one number per round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    requests: dict[str, list[int]] = field(default_factory=dict)


def measure(store: CountedStore, rounds: int = ROUNDS, models: int = MODELS) -> Found:
    """In an empty store. `cold`: by a registry object that has read nothing yet."""
    registry, found = Registry(store, actor="benchmark"), Found()

    def timed(name: str, times: int, act: Callable[[int], object]) -> None:
        found.seconds[name], found.requests[name] = [], []
        for number in range(times):
            before, begun = store.requests, time.perf_counter()
            act(number)
            found.seconds[name].append(time.perf_counter() - begun)
            found.requests[name].append(store.requests - before)

    def publish(name: str, number: int) -> None:
        registry.commit(name, lambda _: [version(number)], create=True)

    timed("publish", rounds + 2, lambda number: publish("a", number))
    timed("alias", rounds + 1, lambda number: registry.alias("a", "prod", f"v{number + 2}"))
    timed("resolve", rounds, lambda _: registry.resolve("a@prod"))
    timed("resolve, cold", rounds, lambda _: Registry(store, actor="benchmark").resolve("a@prod"))
    timed("rollback", rounds, lambda _: registry.rollback("a"))
    for number in range(models):
        publish(f"model-{number:05d}", number)
    registry.list()  # which brings the index up to date
    timed("list", LISTS, lambda _: registry.list())
    timed("list, cold", LISTS, lambda _: Registry(store, actor="benchmark").list())
    return found


def version(number: int) -> Publish:
    files = (FileEntry(path="adapter_model.safetensors", sha256=f"{number:064x}", size=1),)
    manifest = Manifest(files=files, method="lora", rank=8, alpha=16.0, targets=("q_proj",), base=BASE)
    return Publish(digest=f"sha256:{number:064x}", manifest=manifest, loc={})

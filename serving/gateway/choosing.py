"""Which weights a request's `model` means: the bare base, or one version resolved once to its digest.

Remembers versions by digest, so that the residency can fetch by digest alone. Opens no file itself.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from registry.adapters import Registry, Version
from registry.cache import AdapterCache
from registry.errors import Invalid, NotFound, Refused
from registry.manifest import BaseProfile
from registry.names import DEFAULT_ALIAS, Alias, parse_ref
from serving.gateway.errors import ModelNotFound
from serving.gateway.wire.generation import MixPart
from serving.gateway.wire.model import ModelCard
from serving.mix import mix_digest

MAX_REMEMBERED = 16_384
MAX_FOLLOWED = 4096


MIX = "(mix)"
"""What metrics and logs call every mix; no adapter can have this name."""


@dataclass(frozen=True)
class Part:
    """One adapter of a mix."""

    version: Version
    weight: float


@dataclass(frozen=True)
class Choice:
    """What a request asked for, and what it was resolved to; never changes while the request runs."""

    requested: str
    version: Version | None
    """None for the bare base, and for a mix: what it answers says nothing of one adapter."""
    fingerprint: str
    captured: bool = False
    """Whether the adapter's owner allows texts to be kept."""
    is_shared: bool = False
    """Whether another tenant owns it; then it is neither observed nor captured here."""
    parts: tuple[Part, ...] = ()
    instead_of: str | None = None
    """The digest that the alias stands at, whose stored bytes are damaged; `version` is what it meant before."""

    @property
    def adapter(self) -> str | None:
        if self.version is None:
            return None
        return f"{self.version.tenant}/{self.version.adapter}" if self.is_shared else self.version.adapter

    @property
    def label(self) -> str | None:
        """Under which name the request is counted."""
        return MIX if self.parts else self.adapter

    @property
    def digest(self) -> str | None:
        """None for the bare base."""
        return self.fingerprint if self.version or self.parts else None

    @property
    def digests(self) -> list[str]:
        """Everything that takes part in the answer, beside the base."""
        return [*(part.version.digest for part in self.parts), *([self.digest] if self.digest else [])]

    def headers(self) -> dict[str, str]:
        if self.parts:
            parts = ", ".join(f"{part.version.digest};weight={part.weight:g}" for part in self.parts)
            return {"x-adapter-digest": self.fingerprint, "x-adapter-mix": parts}
        if self.version is None:
            return {"x-base-digest": self.fingerprint}
        headers = {"x-adapter-digest": self.version.digest, "x-adapter-version": str(self.version.number)}
        return headers if self.instead_of is None else headers | {"x-adapter-instead-of": self.instead_of}


class Catalog:
    """The registry as requests see it. Its methods block on the store: call them from a thread."""

    def __init__(
        self,
        registry: Registry,
        cache: AdapterCache,
        profile: BaseProfile,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry
        self._cache = cache
        self._base_fingerprint = f"sha256:{profile.identity.weights_sha256.removeprefix('sha256:')}"
        self.base_names = tuple(dict.fromkeys((profile.identity.id, *profile.names)))
        self._rng = rng or random.Random()
        self._clock = clock
        self._versions: OrderedDict[str, tuple[Version, float]] = OrderedDict()
        """Digest -> version, and when it was chosen last; the latest at the end."""
        self._followed: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def draw(self, model: str) -> Choice:
        """As `choose`; of an alias that stands at several versions, any one as often as its weight says."""
        return self.choose(model, at=self._rng.random())

    def choose(self, model: str, *, at: float = 0.0) -> Choice:
        """Resolve freshly from the log's tail; ModelNotFound for anything this tenant cannot reach.

        `at` in [0, 1) picks among several versions of one alias, laid end to end by weight, the heaviest first.
        """
        if model in self.base_names:
            return Choice(model, None, self._base_fingerprint)
        try:
            ref = parse_ref(model)
            state = self.registry.reach(ref)
            version = state.servable(ref.selector, at=at)
        except (NotFound, Invalid) as error:
            raise ModelNotFound(f"the model {model!r} does not exist") from error
        self._remember(version)
        if isinstance(ref.selector, Alias):
            self._follow(model, state.aliases[ref.selector.name])
        is_shared = version.tenant != self.registry.tenant
        return Choice(model, version, version.digest, captured=state.policy.get("capture") is True, is_shared=is_shared)

    def mix(self, model: str, wanted: Sequence[MixPart]) -> Choice:
        """Resolve every part as `choose` would; the mix is applied to the base, which `model` must name."""
        if model not in self.base_names:
            raise Invalid(f"with adapters, model names the base: {self.base_names[0]!r}", param="model")
        parts: list[Part] = []
        for index, each in enumerate(wanted):
            version, where = self.choose(each.model).version, f"adapters[{index}].model"
            if version is None:
                raise Invalid("the base is part of every mix; name an adapter", param=where)
            if any(version.digest == part.version.digest for part in parts):
                raise Invalid(f"{each.model!r} is in the mix already", param=where)
            parts.append(Part(version, each.weight))
        fingerprint = mix_digest([(part.version.digest, part.weight) for part in parts])
        return Choice(model, None, fingerprint, parts=tuple(parts))

    def earlier(self, damaged: Choice) -> Choice | None:
        """What the alias that was asked for meant before it was put to a damaged version; None if there is nothing."""
        ref = parse_ref(damaged.requested) if damaged.version is not None else None
        if ref is None or not isinstance(ref.selector, Alias):
            return None
        state = self.registry.reach(ref)
        try:
            targets = state.rollback_targets(ref.selector.name)
        except NotFound:
            return None
        version = state.find(max(targets, key=lambda digest: targets[digest]))
        if version is None or version.digest == damaged.digest:
            return None
        self._remember(version)
        return replace(damaged, version=version, fingerprint=version.digest, instead_of=damaged.digest)

    def name_of(self, digest: str) -> str:
        """`adapter@v3` for a version that was chosen before."""
        with self._lock:
            known = self._versions.get(digest)
        return digest[:19] if known is None else known[0].name

    def fetch(self, digest: str) -> Path:
        """The verified local directory of a version that was chosen before."""
        with self._lock:
            known = self._versions.get(digest)
        if known is None:
            raise NotFound(f"no request has chosen {digest}")
        return self._cache.path(known[0])

    def wanted(self, within_s: float, pinned: Collection[str]) -> list[Version]:
        """Versions of this tenant that were chosen within so many seconds, or are among the digests `pinned`."""
        since = self._clock() - within_s
        with self._lock:
            known = list(self._versions.values())
        ours = [(version, at) for version, at in known if version.tenant == self.registry.tenant]
        return [version for version, at in ours if at >= since or version.digest in pinned]

    def followed(self) -> list[tuple[str, str]]:
        """The models by alias that were asked for lately, and the digest that each meant last."""
        with self._lock:
            return list(self._followed.items())

    def _follow(self, model: str, digest: str) -> None:
        with self._lock:
            self._followed[model] = digest
            self._followed.move_to_end(model)
            while len(self._followed) > MAX_FOLLOWED:
                self._followed.popitem(last=False)

    def _remember(self, version: Version) -> None:
        with self._lock:
            self._versions[version.digest] = version, self._clock()
            self._versions.move_to_end(version.digest)
            while len(self._versions) > MAX_REMEMBERED:
                self._versions.popitem(last=False)

    def cards(self) -> list[ModelCard]:
        """Every name a request may use: the base, and each adapter under each alias (bare for the default one)."""
        cards = [self._base_card(self.base_names[0])]
        for summary in self.registry.list():
            try:
                state = self.registry.state(summary.adapter)
            except (NotFound, Refused):  # just gone, or nobody whom this gateway trusts vouches for it
                continue
            for alias in sorted(state.aliases):
                name = state.adapter if alias == DEFAULT_ALIAS else f"{state.adapter}@{alias}"
                cards.append(self._card(name, state.select(Alias(alias))))
        return cards

    def card(self, model: str) -> ModelCard:
        choice = self.choose(model)
        return self._base_card(model) if choice.version is None else self._card(model, choice.version)

    def _base_card(self, name: str) -> ModelCard:
        return ModelCard(id=name, created=0, owned_by="base", root=self._base_fingerprint, parent=None)

    def _card(self, name: str, version: Version) -> ModelCard:
        return ModelCard(
            id=name,
            created=int(version.published_at),
            owned_by=version.tenant,
            root=version.digest,
            parent=self.base_names[0],
            version=version.number,
        )

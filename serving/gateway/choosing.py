"""Which weights a request's `model` means: the bare base, or one version resolved once to its digest.

What is chosen is made known, so that it can be fetched by digest alone. Opens no file itself.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

from registry.adapters import AdapterState, Registry, Version
from registry.captures.redaction import Kind
from registry.errors import Invalid, NotFound
from registry.manifest import BaseProfile
from registry.names import Alias, ModelRef, parse_ref
from serving.gateway.cards import Cards
from serving.gateway.errors import ModelNotFound
from serving.gateway.known import Known
from serving.gateway.wire.generation import MixPart
from serving.gateway.wire.model import ModelCard
from serving.mix import mix_digest

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
    """Whether the adapter's owner allows texts to be kept, and is this tenant."""
    redact: tuple[Kind, ...] = ()
    """What the owner wants taken out of texts before they are kept."""
    is_shared: bool = False
    """Whether another tenant owns it; then it is neither observed nor captured here."""
    parts: tuple[Part, ...] = ()
    alias: str | None = None
    """The alias it was named by."""
    share: float | None = None
    """The part of the alias's traffic that this version gets, where others get the rest."""
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
    def names(self) -> dict[str, str]:
        """By digest, everything that takes part in the answer, beside the base, as this tenant calls it."""
        versions = [self.version, *(part.version for part in self.parts)]
        names = {version.digest: version.name for version in versions if version is not None}
        return names | {self.fingerprint: MIX} if self.parts else names

    def headers(self) -> dict[str, str]:
        if self.parts:
            parts = ", ".join(f"{part.version.digest};weight={part.weight:g}" for part in self.parts)
            return {"x-adapter-digest": self.fingerprint, "x-adapter-mix": parts}
        if self.version is None:
            return {"x-base-digest": self.fingerprint}
        headers = {"x-adapter-digest": self.version.digest, "x-adapter-version": str(self.version.number)}
        if self.alias is not None:
            headers["x-adapter-alias"] = self.alias
        if self.share is not None:
            headers["x-adapter-share"] = f"{self.share:.4g}"
        return headers if self.instead_of is None else headers | {"x-adapter-instead-of": self.instead_of}


class Catalog:
    """The registry as requests see it. Its methods block on the store: call them from a thread."""

    def __init__(
        self,
        registry: Registry,
        known: Known,
        profile: BaseProfile,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self.registry = registry
        self.known = known
        self._base_fingerprint = f"sha256:{profile.identity.weights_sha256.removeprefix('sha256:')}"
        self.base_weights = profile.identity.weights_sha256
        self.base_names = tuple(dict.fromkeys((profile.identity.id, *profile.names)))
        self.cards = Cards(registry, self.base_names[0], self._base_fingerprint)
        self._rng = rng or random.Random()
        self._followed: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._lock = Lock()

    def draw(self, model: str, sticky: str | None) -> Choice:
        """As `choose`; of an alias that stands at several versions, any one as often as its weight says.

        The same `sticky` gets the same version on every gateway, for as long as the weights stand; None gets any.
        """
        return self.choose(model, draw=self._rng.randbytes(16).hex() if sticky is None else sticky)

    def choose(self, model: str, *, draw: str | None = None) -> Choice:
        """Resolve freshly from the log's tail; ModelNotFound for anything this tenant cannot reach.

        `draw` picks among several versions of one alias; without it, it is the heaviest.
        """
        if model in self.base_names:
            return Choice(model, None, self._base_fingerprint)
        ref, state = self._reach(model)
        try:
            version = state.servable(ref.selector, draw=draw)
        except NotFound as error:
            raise ModelNotFound(f"the model {model!r} does not exist") from error
        self.known.remember(version)
        choice = Choice(
            model,
            version,
            version.digest,
            captured=state.policy.get("capture") is True and version.tenant == self.registry.tenant,
            redact=tuple(state.policy.get("redact") or ()),
            is_shared=version.tenant != self.registry.tenant,
        )
        if not isinstance(ref.selector, Alias):
            return choice
        alias = ref.selector.name
        standing = state.standing(alias)
        self._follow(model, frozenset(standing))
        share = standing[version.digest] / sum(standing.values()) if len(standing) > 1 else None
        return replace(choice, alias=alias, share=share)

    def arms(self, model: str) -> frozenset[str]:
        """The digests of everything that a model may mean now; empty for the base."""
        if model in self.base_names:
            return frozenset()
        ref, state = self._reach(model)
        standing = state.standing(ref.selector.name) if isinstance(ref.selector, Alias) else {}
        arms = [state.find(digest) for digest in standing] or [state.select(ref.selector)]
        usable = [arm for arm in arms if arm is not None and arm.digest not in state.quarantined]
        for arm in usable:
            self.known.remember(arm)
        return frozenset(arm.digest for arm in usable)

    def _reach(self, model: str) -> tuple[ModelRef, AdapterState]:
        try:
            ref = parse_ref(model)
            return ref, self.registry.reach(ref)
        except (NotFound, Invalid) as error:
            raise ModelNotFound(f"the model {model!r} does not exist") from error

    def mix(self, model: str, wanted: Sequence[MixPart], sticky: str | None) -> Choice:
        """Resolve every part as `draw` would; the mix is applied to the base, which `model` must name."""
        if model not in self.base_names:
            raise Invalid(f"with adapters, model names the base: {self.base_names[0]!r}", param="model")
        parts: list[Part] = []
        for index, each in enumerate(wanted):
            version, where = self.draw(each.model, sticky).version, f"adapters[{index}].model"
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
        self.known.remember(version)
        return replace(damaged, version=version, fingerprint=version.digest, share=None, instead_of=damaged.digest)

    def followed(self) -> list[tuple[str, frozenset[str]]]:
        """The models by alias that were asked for lately, and the digests that each meant last."""
        with self._lock:
            return list(self._followed.items())

    def _follow(self, model: str, digests: frozenset[str]) -> None:
        with self._lock:
            self._followed[model] = digests
            self._followed.move_to_end(model)
            while len(self._followed) > MAX_FOLLOWED:
                self._followed.popitem(last=False)

    def card(self, model: str) -> ModelCard:
        choice = self.choose(model)
        return self.cards.base(model) if choice.version is None else self.cards.version(model, choice.version)

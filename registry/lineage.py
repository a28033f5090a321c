"""Where a version comes from and where it has been: data, parents, trigger, evaluation, and every alias it ever had.

Reads whole logs, which are never deleted: versions that are gone have a lineage too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from registry.adapters import Registry
from registry.errors import NotFound, Refused
from registry.history import Step
from registry.manifest import DatasetRecord
from registry.names import Alias, Digest, Number, Selector, parse_ref, parse_selector
from registry.ops import Delete
from registry.reviews import Verdict
from registry.versions import AdapterState, Version

MAX_PARENTS = 100


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time in which an alias stood at the version; `until` None: it still does."""

    alias: str
    weight: float
    since: float
    until: float | None
    actor: str
    reason: str
    n: int
    """The event that began it."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    time: float
    actor: str
    reason: str


class Ancestor(msgspec.Struct, frozen=True, kw_only=True):
    adapter: str
    digest: str
    number: int | None
    """None where this tenant's registry holds no trace of it."""
    dataset: DatasetRecord | None = None
    trigger: str | None = None
    deleted: bool = False


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Data, trigger, metrics and evidence are in the version's manifest."""

    version: Version
    published_by: str
    deleted: Ending | None
    quarantined: str | None
    """Why."""
    parents: tuple[Ancestor, ...]
    """The nearest first."""
    children: tuple[str, ...]
    """Versions of the same adapter that were made from it."""
    holdings: tuple[Holding, ...]
    """Oldest first."""
    reviews: tuple[Verdict, ...]


def trace(registry: Registry, ref: str) -> Lineage:
    """The lineage of a version, living or deleted: `adapter@selector`, or a digest alone."""
    adapter, selector = _place(registry, ref)
    walked = [*registry.walk(adapter)]
    state = walked[-1].after
    version = _version(walked, state, selector)
    return Lineage(
        version=version,
        published_by=_publication(walked, version).event.actor,
        deleted=_ending(walked, version),
        quarantined=state.quarantined.get(version.digest),
        parents=tuple(_ancestors(registry, version)),
        children=tuple(each.name for each in _published(walked) if _is_parent(version, each)),
        holdings=tuple(_holdings(walked, version.digest)),
        reviews=state.reviews.get(version.digest, ()),
    )


def _place(registry: Registry, ref: str) -> tuple[str, Selector]:
    """Adapter and selector; for a digest alone, the first adapter that has it."""
    if not ref.startswith("sha256:"):
        parsed = parse_ref(ref)
        if parsed.tenant not in (None, registry.tenant):
            raise NotFound(f"the lineage of {ref} is told to its owner alone")
        return parsed.adapter, parsed.selector
    selector = parse_selector(ref)
    for name in registry.store.folders(f"t/{registry.tenant}/a/"):
        try:
            state = registry.state(name)
        except (NotFound, Refused):  # never begun, or nobody whom this reader trusts vouches for it
            continue
        if any(
            version.digest.startswith(ref) for version in (*state.versions, *(dead.version for dead in state.deleted))
        ):
            return name, selector
    hint = "write ADAPTER@DIGEST for one whose bytes are collected"
    raise NotFound(f"no adapter has a version {ref}", hint=hint)


def _version(walked: Sequence[Step], state: AdapterState, selector: Selector) -> Version:
    """The version a selector means now, or else the last one it meant while that lived."""
    if isinstance(selector, Alias):
        return state.select(selector)
    meant = [version for version in _published(walked) if _is_meant(version, selector)]
    if len({version.digest for version in meant}) == 1:
        return meant[-1]
    return state.select(selector)


def _is_meant(version: Version, selector: Number | Digest) -> bool:
    return version.number == selector.n if isinstance(selector, Number) else version.digest.startswith(str(selector))


def _published(walked: Sequence[Step]) -> Iterator[Version]:
    """Every version there ever was, deleted ones too."""
    for step in walked:
        if step.after.next_version > step.before.next_version:
            yield from (each for each in step.after.versions if each.number >= step.before.next_version)


def _publication(walked: Sequence[Step], version: Version) -> Step:
    return next(step for step in walked if step.after.next_version > version.number)


def _ending(walked: Sequence[Step], version: Version) -> Ending | None:
    """The deletion of this very version: the same bytes may have been published again since."""
    for step in walked:
        for op in step.event.ops:
            if isinstance(op, Delete) and step.before.find(op.digest) == version and not step.after.find(op.digest):
                return Ending(time=step.event.time, actor=step.event.actor, reason=op.reason)
    return None


def _is_parent(version: Version, other: Version) -> bool:
    parent = other.manifest.parent
    return parent is not None and (parent.adapter, parent.digest) == (version.adapter, version.digest)


def _ancestors(registry: Registry, version: Version) -> Iterator[Ancestor]:
    """The chain of parents as far as this registry knows it; other adapters' too."""
    parent, walks = version.manifest.parent, dict[str, list[Step]]()
    for _ in range(MAX_PARENTS):
        if parent is None:
            return
        if parent.adapter not in walks:
            try:
                walks[parent.adapter] = [*registry.walk(parent.adapter)]
            except NotFound:
                walks[parent.adapter] = []
        walked = walks[parent.adapter]
        found = [each for each in _published(walked) if each.digest == parent.digest]
        if not found:
            yield Ancestor(adapter=parent.adapter, digest=parent.digest, number=None)
            return
        manifest = found[-1].manifest
        yield Ancestor(
            adapter=parent.adapter,
            digest=parent.digest,
            number=found[-1].number,
            dataset=manifest.dataset,
            trigger=manifest.trigger,
            deleted=walked[-1].after.find(parent.digest) is None,
        )
        parent = manifest.parent


def _holdings(walked: Sequence[Step], digest: str) -> list[Holding]:
    """Every stretch of time in which some alias gave the version a share."""
    ended, standing = list[Holding](), dict[str, Holding]()
    for step in walked:
        for alias in {*step.before.aliases, *step.after.aliases}:
            weight = step.after.standing(alias).get(digest, 0.0)
            if weight == step.before.standing(alias).get(digest, 0.0):
                continue
            if (before := standing.pop(alias, None)) is not None:
                ended.append(msgspec.structs.replace(before, until=step.event.time))
            if weight:
                standing[alias] = _begun(step, alias, weight)
    return sorted((*ended, *standing.values()), key=lambda holding: holding.n)


def _begun(step: Step, alias: str, weight: float) -> Holding:
    move = next(move for move in reversed(step.after.alias_history) if move.alias == alias)
    return Holding(
        alias=alias,
        weight=weight,
        since=step.event.time,
        until=None,
        actor=move.actor,
        reason=move.reason,
        n=step.event.n,
    )

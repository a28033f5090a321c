"""Frozen bases known to a registry: `bases/<weights_sha256>/profile.json`. Reads profiles, never weights."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry.canonical import canonical
from registry.errors import Conflict, Corrupt, NotFound, Refused
from registry.manifest import BaseProfile
from registry.store import Store, create_surely


def register(store: Store, profile: BaseProfile) -> BaseProfile:
    """Create the profile, or renew it and add this one's names. One set of weights has one tokenizer and template."""
    key = _key(profile.identity.weights_sha256)
    if not store.exists(key) and create_surely(store, key, canonical(profile)):
        return profile
    known = read(store, profile.identity.weights_sha256)  # which a store that is only read may hold, too
    for part in ("tokenizer_sha256", "template_sha256", "shape_sha256"):
        if getattr(known.identity, part) != getattr(profile.identity, part):
            raise Conflict(
                f"base {profile.identity.id} is registered with another {part}",
                hint="adapters depend on it; serve this base from its own store",
                actual=getattr(known.identity, part),
            )
    merged = tuple(dict.fromkeys([*known.names, *profile.names]))
    current = msgspec.structs.replace(profile, identity=known.identity, names=merged)
    if current != known:  # more names, or written before profiles said so much
        store.put(key, canonical(current))
    return current


def read(store: Store, weights_sha256: str) -> BaseProfile:
    key = _key(weights_sha256)
    try:
        return msgspec.json.decode(store.get(key), type=BaseProfile)
    except NotFound:
        raise NotFound(f"no base with weights {weights_sha256}", hint="register it: lorimer base") from None
    except msgspec.DecodeError as error:
        raise Corrupt(f"{key} is not a base profile: {error}") from error


def read_all(store: Store) -> list[BaseProfile]:
    return [read(store, weights_sha256) for weights_sha256 in store.folders("bases/")]


def choose(profiles: Sequence[BaseProfile], name: str | None, base_id: str | None = None) -> BaseProfile:
    """The registered base an adapter was trained on, by the name in its config, or by an explicit id."""
    if not profiles:
        raise NotFound("no base is registered in this store", hint="register one: lorimer base")
    if base_id is not None:
        profiles = [profile for profile in profiles if _is(profile, base_id)]
        if not profiles:
            raise NotFound(f"no base {base_id!r} is registered in this store")
    if name:
        profiles = [profile for profile in profiles if name in profile.names or name == profile.identity.id]
    if not profiles:
        raise Refused(f"adapter_config.json: the adapter was trained on {name!r}, which is not a registered base")
    if len(profiles) > 1:
        ids = ", ".join(profile.identity.id for profile in profiles)
        raise Refused(f"the adapter fits several registered bases: {ids}", hint="choose with --base-id")
    return profiles[0]


def _is(profile: BaseProfile, base_id: str) -> bool:
    identity = profile.identity
    return base_id in (identity.id, identity.weights_sha256) or base_id in profile.names


def _key(weights_sha256: str) -> str:
    return f"bases/{weights_sha256}/profile.json"

"""API keys: who may call which gateway for which tenant, as one log for the whole registry. Holds hashes, never keys.

    keys/log/<n>.json

A secret is shown once, when it is made, and has 256 random bits: its SHA-256 tells nothing of it. The log is read by
its tail, one GET, so that every gateway learns of a new, changed or revoked key with its next look. Where roots are
trusted, what none of them signed is void, and a thief of the bucket can mint no key. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from registry.adapters import Registry
from registry.canonical import sha256
from registry.errors import Conflict, Invalid, NotFound, Refused
from registry.log import Event, Log
from registry.names import check_name
from registry.store import Store
from registry.trust import Trust

Scope = Literal["infer", "publish", "promote", "train", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
PREFIX = "keys"
FOLD = 1
"""Raised whenever `_apply` gives another state for the same events."""
BRAND = "sk-lorimer"
"""How every key begins, so that scanners for leaked secrets can find one."""


@dataclass(frozen=True)
class Limits:
    """What one key may use on each gateway; None is without limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


NO_LIMITS = Limits()


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """What a key allows. `adapters` are name patterns (`support-*`); empty allows all of the tenant."""

    name: str
    tenant: str
    scopes: frozenset[Scope]
    adapters: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    expires_at: float | None = None


class Create(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="create"):
    id: str
    hash: str
    grants: Grants


class Rotate(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="rotate"):
    """From now on `hash`; the secret before it is valid until `old_until`."""

    id: str
    hash: str
    old_until: float


class Revoke(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="revoke"):
    id: str
    reason: str = ""


Op = Create | Rotate | Revoke


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """`until` None: as long as the key itself."""

    hash: str
    since: float
    until: float | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its log stands. `secrets` has the newest first."""

    id: str
    grants: Grants
    secrets: tuple[Secret, ...]
    created_at: float
    created_by: str
    revoked_at: float | None = None
    revoked_why: str = ""

    def state(self, now: float) -> Literal["valid", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        expires_at = self.grants.expires_at
        return "valid" if expires_at is None or now < expires_at else "expired"

    def refusal(self, hash: str, now: float) -> str | None:
        """Why the secret with this hash opens nothing now; None: it does."""
        if (state := self.state(now)) != "valid":
            return f"is {state}" if state == "revoked" else "has expired"
        current = any(secret.hash == hash and (secret.until is None or now < secret.until) for secret in self.secrets)
        return None if current else "was replaced by a newer one"


class KeyRing(msgspec.Struct, frozen=True):
    """Every key there ever was, by id, oldest first."""

    keys: dict[str, Key] = {}

    def by_hash(self) -> dict[str, Key]:
        """Every secret that is or was one of a key's two latest."""
        return {secret.hash: key for key in self.keys.values() for secret in key.secrets}


class KeyLog:
    """The keys of a registry. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        *,
        actor: str = "",
        trust: Trust | None = None,
    ) -> None:
        self._clock = clock
        self._actor = actor
        self._trust = trust or Trust()
        self._log: Log[Op, KeyRing] = Log(
            store,
            PREFIX,
            clock,
            op_type=Op,
            initial=KeyRing(),
            apply=self._fold,
            sign=self._trust.sign(PREFIX),
            authenticate=self._trust.authenticate(PREFIX),
            admit=self._admit,
            fold_version=FOLD,
            trust_checkpoints=not self._trust.roots,
            memory=self._trust.memory(store.url, PREFIX, KeyRing, FOLD),
        )

    @classmethod
    def of(cls, registry: Registry) -> KeyLog:
        """The keys that lie beside an open registry's adapters."""
        return cls(registry.store, registry.clock, actor=registry.actor, trust=registry.trust)

    def read(self) -> KeyRing:
        """Strongly fresh; warm it is one GET."""
        return self._log.fold()

    def create(self, grants: Grants) -> tuple[Key, str]:
        """A new key and its secret, which is kept nowhere."""
        check_grants(grants, self._clock())
        id = secrets.token_hex(4)
        secret = _new_secret(id)

        def decide(ring: KeyRing) -> Sequence[Op]:
            if any(_same_name(key, grants) and key.revoked_at is None for key in ring.keys.values()):
                raise Conflict(
                    f"tenant {grants.tenant} has a key {grants.name!r} already",
                    hint="rotate or revoke it, or choose another name",
                )
            return [Create(id=id, hash=sha256(secret.encode()), grants=grants)]

        self._log.transact(decide, actor=self._actor)
        return self.read().keys[id], secret

    def rotate(self, tenant: str, name: str, overlap_s: float) -> tuple[Key, str]:
        """A new secret for the same key; the one before stays valid for the overlap, any older one ends now."""
        if overlap_s < 0:
            raise Invalid("an overlap cannot be negative", param="overlap")
        now = self._clock()
        id = self._living(self.read(), tenant, name, now).id
        secret = _new_secret(id)

        def decide(ring: KeyRing) -> Sequence[Op]:
            self._living(ring, tenant, id, now)
            return [Rotate(id=id, hash=sha256(secret.encode()), old_until=now + overlap_s)]

        self._log.transact(decide, actor=self._actor)
        return self.read().keys[id], secret

    def revoke(self, tenant: str, name: str, reason: str = "") -> Key:
        """End a key for good; Conflict if that is so already."""

        def decide(ring: KeyRing) -> Sequence[Op]:
            key = find(ring, tenant, name)
            if key.revoked_at is not None:
                raise Conflict(f"key {key.id} is revoked already")
            return [Revoke(id=key.id, reason=reason)]

        event = self._log.transact(decide, actor=self._actor)
        assert event is not None, "a revocation is recorded or refused"
        return self.read().keys[event.ops[0].id]

    def _living(self, ring: KeyRing, tenant: str, name: str, now: float) -> Key:
        key = find(ring, tenant, name)
        if (state := key.state(now)) != "valid":
            raise Conflict(f"key {key.id} is {state}", hint="create a new one")
        return key

    def _fold(self, ring: KeyRing, event: Event[Op]) -> KeyRing:
        if not self._believes(event):
            return ring
        keys = dict(ring.keys)
        for op in event.ops:
            made = _apply(keys.get(op.id), op, event)
            if made is not None:
                keys[op.id] = made
        return KeyRing(keys)

    def _admit(self, _: KeyRing, event: Event[Op]) -> None:
        if not self._believes(event):
            hint = "sign with the key of a root: signing_key"
            raise Refused("where roots are trusted, only what a root signs makes or ends a key", hint=hint)

    def _believes(self, event: Event[Op]) -> bool:
        roots = self._trust.roots
        return not roots or (event.signers is not msgspec.UNSET and not roots.isdisjoint(event.signers))


def find(ring: KeyRing, tenant: str, name: str) -> Key:
    """A tenant's key by its id, or by its name: the newest of that name."""
    for key in reversed(ring.keys.values()):
        if key.grants.tenant == tenant and name in (key.id, key.grants.name):
            return key
    raise NotFound(f"tenant {tenant} has no key {name!r}", hint="`lorimer keys list` shows what there is")


def check_grants(grants: Grants, now: float) -> None:
    """Invalid, naming the field, where a key could not mean what its owner thinks."""
    check_name(grants.name, "key")
    check_name(grants.tenant, "tenant")
    for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
        limit = getattr(grants.limits, name)
        if limit is not None and limit < 1:
            raise Invalid(f"{name} must be 1 or more", hint="revoke a key to stop it", param=name)
    if grants.expires_at is not None and grants.expires_at <= now:
        raise Invalid("the key would have expired already", param="expires")
    for pattern in grants.adapters:
        if not pattern or not set(pattern) <= _PATTERN:
            raise Invalid(
                f"{pattern!r} is no pattern of adapter names",
                hint="such as support-* or owner/support-*",
                param="adapter",
            )


_PATTERN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*?")


def _apply(key: Key | None, op: Op, event: Event[Op]) -> Key | None:
    """The key after the op; an op on a key that is not there, or there already, changes nothing."""
    if isinstance(op, Create):
        first = Secret(hash=op.hash, since=event.time)
        made = Key(id=op.id, grants=op.grants, secrets=(first,), created_at=event.time, created_by=event.actor)
        return made if key is None else key
    if key is None or key.revoked_at is not None:
        return key
    if isinstance(op, Revoke):
        return msgspec.structs.replace(key, revoked_at=event.time, revoked_why=op.reason)
    before = msgspec.structs.replace(key.secrets[0], until=op.old_until)
    return msgspec.structs.replace(key, secrets=(Secret(hash=op.hash, since=event.time), before))


def _same_name(key: Key, grants: Grants) -> bool:
    return (key.grants.tenant, key.grants.name) == (grants.tenant, grants.name)


def _new_secret(id: str) -> str:
    """The id is part of it: whoever finds a leaked key can tell which one to revoke."""
    return f"{BRAND}-{id}-{secrets.token_urlsafe(32)}"

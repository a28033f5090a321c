"""Whom this process trusts, and as whom it signs: the keys that its settings name, applied to adapters' logs.

Everything here comes from the machine's own files, never from the bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from registry.canonical import canonical, sha256
from registry.errors import Refused
from registry.judging import Judge
from registry.log import Authenticate, Event, Sign, Signature
from registry.memory import Memory
from registry.ops import Op
from registry.settings import Settings
from registry.signing import SigningKey, read_key, read_key_ids, signers_of
from registry.versions import AdapterState

State = TypeVar("State")


@dataclass(frozen=True)
class Trust:
    """With `roots`, an adapter without rules that a root signed is refused."""

    key: SigningKey | None = None
    roots: frozenset[str] = frozenset()
    remembers: Path | None = None
    """Where this machine keeps what it has read of logs."""

    @property
    def judge(self) -> Judge:
        return Judge(self.roots)

    def sign(self, place: str) -> Sign | None:
        """Signs events of the log at `place`."""
        if (key := self.key) is None:
            return None
        return lambda payload: (key.sign(payload, place),)

    def authenticate(self, place: str) -> Authenticate:
        def signers(payload: bytes, signatures: tuple[Signature, ...]) -> tuple[str, ...]:
            return signers_of(payload, place, signatures)

        return signers

    def memory(self, url: str, place: str, state: type[State], fold: int) -> Memory[State] | None:
        """Of the log at `place` in the store at `url`, folded so; only who trusts somebody needs one."""
        if not self.roots or self.remembers is None:
            return None
        path = self.remembers / sha256(url.encode())[:16] / f"{place}.json"
        return Memory(path, state, f"{fold}-{sha256(canonical(sorted(self.roots)))[:16]}")

    def admit(self, state: AdapterState, event: Event[Op]) -> None:
        """Refused, with the rule, where an event would be void once written, or would not be believed."""
        if (breach := self.judge.breach(state, event)) is not None:
            hint = f"the rules are: lorimer registry rules {state.adapter}"
            if self.key is None:
                hint = "sign with a key that may: signing_key"
            raise Refused(f"{state.adapter}: {breach}", hint=hint)
        self.check(self.judge.fold(state, event))

    def check(self, state: AdapterState) -> None:
        """Refused where this reader trusts roots, and none of them vouches for the adapter."""
        if self.roots and state.rules is None:
            raise Refused(
                f"adapter {state.adapter} has no rules signed by a trusted key",
                hint="`lorimer registry rules NAME FILE`, signed by a root, makes it trusted",
            )


def open_trust(settings: Settings) -> Trust:
    """The key and the roots that the settings name, if they do."""
    key = read_key(Path(settings.signing_key).expanduser()) if settings.signing_key else None
    roots = read_key_ids(Path(settings.trusted_keys).expanduser()) if settings.trusted_keys else frozenset()
    server = sha256((settings.s3_endpoint or "").encode())[:16]  # two servers may have buckets of one name
    return Trust(key, roots, settings.cache_path() / "memory" / server)

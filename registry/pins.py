"""Reader leases: what each gateway may still fetch, so that nobody deletes it from under its feet.

    t/<tenant>/pins/<gateway>.json

Liveness only: a pin keeps the blobs of a deleted version until it lapses. No answer depends on one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from registry.canonical import canonical
from registry.errors import Corrupt, NotFound
from registry.names import check_name
from registry.store import Store

SKEW_S = 60.0
"""A gateway's clock may be this far behind the collector's."""
FORGET_S = 86_400.0


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    gateway: str
    until: float
    held: dict[str, tuple[str, ...]]
    """Adapter -> digests."""


class Pins:
    """The pins of one tenant. Each gateway writes its own, and only that."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._prefix = f"t/{tenant}/pins/"
        self._clock = clock

    def hold(self, gateway: str, held: Mapping[str, Collection[str]], lease_s: float) -> None:
        """Replace what `gateway` holds, for so long."""
        digests = {adapter: tuple(sorted(each)) for adapter, each in held.items()}
        self._store.put(
            self._key(gateway), canonical(Pin(gateway=gateway, until=self._clock() + lease_s, held=digests))
        )

    def release(self, gateway: str) -> None:
        self._store.delete(self._key(gateway))

    def standing(self) -> list[Pin]:
        """Pins that have not lapsed."""
        return [pin for pin in self._all() if pin.until + SKEW_S > self._clock()]

    def forget(self) -> None:
        """Remove pins that lapsed long ago."""
        for pin in self._all():
            if pin.until + FORGET_S < self._clock():
                self.release(pin.gateway)

    def _all(self) -> list[Pin]:
        keys = [key for key in self._store.list(self._prefix) if key.endswith(".json")]
        return [pin for pin in map(self._read, keys) if pin is not None]

    def _read(self, key: str) -> Pin | None:
        """None when its gateway released it meanwhile."""
        try:
            return msgspec.json.decode(self._store.get(key), type=Pin)
        except NotFound:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            hint = "delete it, once its gateway is known to be gone"
            raise Corrupt(f"{key} is not a readable pin, so nobody knows what it holds: {error}", hint=hint) from error

    def _key(self, gateway: str) -> str:
        return f"{self._prefix}{check_name(gateway, 'gateway')}.json"


def holders(pins: Collection[Pin], adapter: str, digest: str) -> list[str]:
    """The gateways that hold a version."""
    return sorted(pin.gateway for pin in pins if digest in pin.held.get(adapter, ()))

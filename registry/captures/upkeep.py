"""What is due in one tenant's captures: what expired by its owners' policies, and erasures that others left undone."""

from __future__ import annotations

import msgspec

from registry.adapters import Registry
from registry.captures.expiry import Days, Expired, Expiry
from registry.captures.forgetting import Forgetting
from registry.errors import Invalid, NotFound


class Tended(msgspec.Struct, frozen=True, kw_only=True):
    expired: Expired
    late: int
    """Records of people who were forgotten before these were written."""


class Upkeep:
    """Remembers what need not be read again. For one thread."""

    def __init__(self, registry: Registry) -> None:
        store, tenant, clock = registry.store, registry.tenant, registry.clock
        self._registry = registry
        self._expiry = Expiry(store, tenant, clock)
        self._forgetting = Forgetting(store, tenant, clock)

    def run(self) -> Tended:
        """May be stopped anywhere, and run by any number of gateways at once."""
        late = self._forgetting.tend()
        return Tended(expired=self._expiry.run(kept_days(self._registry)), late=late)


def expire(registry: Registry, adapter: str | None = None, days: float | None = None) -> Expired:
    """What the policies say is too old; of one adapter, where it is named, and there whatever `days` says."""
    if days is not None and adapter is None:
        raise Invalid("so many days are for one adapter", hint="name it", param="adapter")
    by_policy = kept_days(registry)

    def kept(name: str) -> float | None:
        if adapter not in (None, name):
            return None
        return by_policy(name) if days is None else days

    expiry = Expiry(registry.store, registry.tenant, registry.clock)
    return expiry.run(kept, today=days is not None and days < 1)


def kept_days(registry: Registry) -> Days:
    """As the policies say now."""

    def days(adapter: str) -> float | None:
        try:
            found = registry.state(adapter).policy.get("capture_days")
        except NotFound:
            return None
        return float(found) if isinstance(found, int | float) and found > 0 else None

    return days

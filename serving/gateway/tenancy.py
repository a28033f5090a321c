"""The tenants that one gateway serves: what belongs to each of them, opened when a request first comes for it.

The base, the engine, the adapters in memory and on disk are shared by all, by digest. Names, aliases, observations and
captured texts are not: a handler reaches them through the tenant of the request's principal, and no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, Protocol

from monitoring.episodes import EpisodeLog
from monitoring.fold import Tally
from monitoring.sensor import Sensor
from monitoring.status import describe
from registry.adapters import Registry
from registry.captures import CaptureWriter
from registry.captures.pseudonyms import Pseudonyms
from registry.files import Files
from registry.jobs import Jobs
from serving.gateway.choosing import Catalog
from serving.gateway.exchange import AnyRequest, gateway_of
from serving.gateway.follower import Follower
from serving.gateway.principal import principal_of
from serving.quarantine import Case, Quarantine

NO_MONITOR = "no monitor runs in this process"


class Monitor(Protocol):
    """A tenant's drift monitor, as far as a gateway shows it."""

    def status(self, adapter: str) -> Mapping[str, Any]: ...


@dataclass(eq=False, kw_only=True)
class Tenant:
    """What of a gateway belongs to one tenant. `monitor` is None where none runs in this process."""

    registry: Registry
    catalog: Catalog
    sensor: Sensor
    captures: CaptureWriter
    pseudonyms: Pseudonyms
    follower: Follower
    monitor: Monitor | None = None

    @property
    def name(self) -> str:
        return self.registry.tenant

    @cached_property
    def files(self) -> Files:
        return Files(self.registry.store, self.name, self.registry.clock)

    @cached_property
    def jobs(self) -> Jobs:
        """Kept, so that a job that has ended is read but once."""
        return Jobs(self.registry.store, self.name, self.registry.clock)

    def drift(self) -> list[Mapping[str, Any]]:
        """The state of every adapter's watch; where no monitor runs here, what is on record. Blocks on the store."""
        names = [summary.adapter for summary in self.registry.list()]
        if self.monitor is not None:
            return [self.monitor.status(name) for name in names]
        histories = [EpisodeLog(self.registry.store, self.name, name, self.registry.clock).fold() for name in names]
        return [describe(each.adapter, Tally(), None, each, missing=NO_MONITOR) for each in histories]

    def cases(self, quarantine: Quarantine) -> list[Case]:
        """What is in quarantine of this tenant's, under its own names."""
        ours = [(case, self.catalog.known.find(case.digest, self.name)) for case in quarantine.cases()]
        return [case.called(version.name) for case, version in ours if version is not None]


class Tenants:
    """Opens each tenant once, without asking the store, and closes them all. Safe for threads."""

    def __init__(self, open_tenant: Callable[[str], Tenant]) -> None:
        self._open = open_tenant
        self._tenants: dict[str, Tenant] = {}
        self._lock = Lock()

    def of(self, name: str) -> Tenant:
        with self._lock:
            if name not in self._tenants:
                tenant = self._tenants[name] = self._open(name)
                tenant.follower.start()
            self._tenants[name].follower.wake()
            return self._tenants[name]

    def opened(self) -> list[Tenant]:
        with self._lock:
            return list(self._tenants.values())


def tenant_of(request: AnyRequest) -> Tenant:
    """The tenant that the request's principal belongs to."""
    return gateway_of(request).tenants.of(principal_of(request).tenant)

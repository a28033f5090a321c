"""What every handler needs, in one value: engine, adapters in memory, tenants, and the threads that may block."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import ParamSpec, TypeVar

from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from monitoring.sensor import Sensor
from registry.adapters import Registry
from registry.cache import AdapterCache
from registry.captures import CaptureWriter
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.redaction import read_redactor
from registry.settings import Settings
from serving.base import Base
from serving.engine import Engine
from serving.gateway.admission import Admission
from serving.gateway.auditing import Audits
from serving.gateway.capture_upkeep import CaptureUpkeep
from serving.gateway.capturing import Capturing
from serving.gateway.choosing import Catalog
from serving.gateway.credentials import Credentials, open_credentials
from serving.gateway.engine_metrics import EngineCollector
from serving.gateway.follower import Follower
from serving.gateway.housekeeper import Housekeeper
from serving.gateway.known import Known
from serving.gateway.limits import Quotas
from serving.gateway.logs import request_log
from serving.gateway.meter import Meter
from serving.gateway.metrics import Metrics
from serving.gateway.places import Places
from serving.gateway.post import Post
from serving.gateway.reading import Reading
from serving.gateway.recorder import Recorder
from serving.gateway.residency_metrics import ResidencyCollector
from serving.gateway.tenancy import Monitor, Tenant, Tenants
from serving.gateway.tenant_metrics import TenantsCollector
from serving.gateway.tracing import open_tracing
from serving.gateway.turnstile import Turnstile
from serving.gateway.vllm_metrics import VllmMetrics
from serving.quarantine import Quarantine
from serving.residency import Residency
from serving.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")

BLOCKING_THREADS = 64
MAX_UPLOADS = 8
MAX_FOLLOWERS = 32
"""Streams of the events of fine-tuning jobs."""


class Gateway:
    """Owns its threads; closing it also closes the engine and the tenants it was given."""

    def __init__(
        self,
        *,
        gateway_id: str,
        base: Base,
        engine: Engine,
        post: Post,
        residency: Residency,
        quarantine: Quarantine,
        tenants: Tenants,
        credentials: Credentials,
        settings: Settings,
        log: FilteringBoundLogger,
        collectors: Iterable[Collector] = (),
    ) -> None:
        self.base = base
        self.engine = engine
        self.residency = residency
        self.quarantine = quarantine
        self.tenants = tenants
        self.home = tenants.of(settings.tenant)
        self.settings = settings
        self.credentials = credentials
        self.log = log
        self.metrics = Metrics([EngineCollector(engine, quarantine), *collectors])
        self.tracing = open_tracing(os.environ, gateway_id)
        self.audits = Audits(self.home.registry.store, gateway_id, self.home.registry.clock)
        self.admission = Admission(Places(settings.max_batch + settings.max_waiting, settings.max_batch), Quotas())
        self.uploads = Turnstile(MAX_UPLOADS, "uploads", retry_after_s=10.0)
        self.followers = Turnstile(MAX_FOLLOWERS, "event streams", retry_after_s=30.0)
        self.draining = False
        self.post = post
        self._threads = ThreadPoolExecutor(BLOCKING_THREADS, "gateway")
        self.reading = Reading(base, engine.max_context)
        clock = self.home.registry.clock
        capturing = Capturing(read_redactor(settings.redactor), self._threads.submit, log, clock)
        self.metrics.registry.register(TenantsCollector(tenants, capturing))
        self.recorder = Recorder(Meter(self.metrics, self._aliases()), self.tracing, capturing, clock)
        self.spell = lru_cache(65_536)(self._spell)
        self._housekeeper = Housekeeper(tenants, residency, log)
        self._housekeeper.start()
        self._capture_upkeep = CaptureUpkeep(tenants, settings.capture_upkeep_s, log)
        self._capture_upkeep.start()

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may block on a store, off the event loop."""
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    def is_ready(self) -> bool:
        return not self.draining and self.engine.is_running

    def close(self) -> None:
        """Finish what is buffered and stop. Requests still running end with an error."""
        self.draining = True
        self.credentials.close()
        for tenant in self.tenants.opened():
            tenant.follower.close()
        self.engine.close()
        self.reading.close()
        self._threads.shutdown(wait=True)
        self.residency.close()
        self._housekeeper.close()
        self._capture_upkeep.close()
        for tenant in self.tenants.opened():
            tenant.sensor.close()
        self.tracing.close()

    def _spell(self, token: int) -> str:
        return str(self.base.tokenizer.decode([token]))

    def _aliases(self) -> VllmMetrics | None:
        if not self.settings.vllm_metric_aliases:
            return None
        name = self.home.catalog.base_names[0]
        return VllmMetrics(self.metrics.registry, self.engine, name, max_lora=self.settings.max_batch)


def open_gateway(
    settings: Settings,
    registry: Registry,
    base: Base,
    *,
    monitor: Monitor | None = None,
    collectors: Iterable[Collector] = (),
    log: FilteringBoundLogger | None = None,
) -> Gateway:
    """Build and start everything a gateway needs around a loaded base and an open registry."""
    registry.register_base(base.profile)
    gateway_id = f"{socket.gethostname().lower()}-{uuid.uuid4().hex[:8]}"
    log = log or request_log(sys.stderr, settings.log_level)
    quarantine = Quarantine(registry.clock)
    turns, post = Turns(lambda: engine.is_busy), Post()

    def between_steps(step_s: float) -> None:
        post.send()
        turns.give(step_s)

    engine = Engine.from_settings(base, settings, quarantine.report, between_steps)
    cache = AdapterCache(settings.cache_path(), registry, settings.cache_bytes, pause=turns.take)
    known = Known(cache)
    residency = Residency(known.fetch, base, settings.adapter_bytes, name_of=known.name_of, turns=turns)

    def open_tenant(name: str) -> Tenant:
        is_home = name == registry.tenant
        own = registry if is_home else registry.of_tenant(name)
        catalog = Catalog(own, known, base.profile)
        return Tenant(
            registry=own,
            catalog=catalog,
            sensor=Sensor(own.store, name, gateway_id, own.clock, settings.observe_flush_s),
            captures=CaptureWriter(own.store, name, gateway_id, own.clock),
            pseudonyms=Pseudonyms(own.store, name),
            follower=Follower(catalog, residency, _names(settings.pinned) if is_home else [], log),
            monitor=monitor if is_home else None,
        )

    gateway = Gateway(
        gateway_id=gateway_id,
        base=base,
        engine=engine,
        post=post,
        residency=residency,
        quarantine=quarantine,
        tenants=Tenants(open_tenant),
        credentials=open_credentials(settings, registry, log),
        settings=settings,
        collectors=[ResidencyCollector(residency, cache), *collectors],
        log=log,
    )
    engine.start()
    return gateway


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]

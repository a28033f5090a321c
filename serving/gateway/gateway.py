"""What every handler needs, in one value: registry, engine, adapters in memory, and the threads that may block."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, ParamSpec, Protocol, TextIO, TypeVar

import structlog
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from monitoring.episodes import EpisodeLog
from monitoring.fold import Tally
from monitoring.sensor import Sensor
from monitoring.status import describe
from registry.adapters import Registry
from registry.cache import AdapterCache
from registry.captures import FLUSH_AFTER_S, CaptureWriter
from registry.errors import LorimerError
from registry.settings import Settings
from serving.base import Base
from serving.engine import Engine
from serving.gateway.auditing import Audits
from serving.gateway.choosing import Catalog
from serving.gateway.credentials import Credentials
from serving.gateway.follower import Follower
from serving.gateway.metrics import Metrics
from serving.gateway.recorder import Recorder
from serving.gateway.residency_metrics import ResidencyCollector
from serving.quarantine import Quarantine
from serving.residency import Residency
from serving.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")

BLOCKING_THREADS = 64
NO_MONITOR = "no monitor runs in this process"


class Watch(Protocol):
    """A drift monitor, as far as the gateway shows it."""

    def status(self, adapter: str) -> Mapping[str, Any]: ...


class Gateway:
    """Owns its threads; closing it also closes the engine, the sensor and the capture writer it was given."""

    def __init__(
        self,
        *,
        gateway_id: str,
        registry: Registry,
        base: Base,
        engine: Engine,
        residency: Residency,
        quarantine: Quarantine,
        catalog: Catalog,
        sensor: Sensor,
        captures: CaptureWriter,
        settings: Settings,
        monitor: Watch | None = None,
        collectors: Iterable[Collector] = (),
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.registry = registry
        self.base = base
        self.engine = engine
        self.residency = residency
        self.quarantine = quarantine
        self.catalog = catalog
        self.sensor = sensor
        self.captures = captures
        self.settings = settings
        self.monitor = monitor
        self.credentials = Credentials(settings.api_key_hashes, settings.tenant)
        self.log = log or request_log(sys.stderr)
        self.metrics = Metrics([ResidencyCollector(residency), *collectors])
        self.audits = Audits(registry.store, gateway_id, registry.clock)
        self.draining = False
        self._follower = Follower(catalog, residency, _names(settings.pinned), self.log)
        self._threads = ThreadPoolExecutor(BLOCKING_THREADS, "gateway")
        self._text_thread = ThreadPoolExecutor(1, "gateway-text")
        self.recorder = Recorder(self.metrics, sensor, captures, self._threads.submit, registry.clock)
        self.spell = lru_cache(65_536)(self._spell)
        self._closing = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="gateway-house", daemon=True)
        self._housekeeper.start()
        self._follower.start()
        self._watch()

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may block on a store, off the event loop."""
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    async def in_text_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run tokeniser work; one thread, because a tokeniser is not made to be shared."""
        return await asyncio.wrap_future(self._text_thread.submit(function, *args, **kwargs))

    def is_ready(self) -> bool:
        return not self.draining and self.engine.is_running

    def drift(self) -> list[Mapping[str, Any]]:
        """The state of every adapter's watch; where no monitor runs here, what is on record. Blocks on the store."""
        names = [summary.adapter for summary in self.registry.list()]
        if self.monitor is not None:
            return [self.monitor.status(name) for name in names]
        store, tenant, clock = self.registry.store, self.registry.tenant, self.registry.clock
        histories = [EpisodeLog(store, tenant, name, clock).fold() for name in names]
        return [describe(each.adapter, Tally(), None, each, missing=NO_MONITOR) for each in histories]

    def close(self) -> None:
        """Finish what is buffered and stop. Requests still running end with an error."""
        self.draining = True
        self._follower.close()
        self.engine.close()
        self._text_thread.shutdown(wait=True)
        self._threads.shutdown(wait=True)
        self.residency.close()
        self._closing.set()
        self._housekeeper.join()
        self.sensor.close()

    def _keep_house(self) -> None:
        """Write what the last requests left in the buffer, though no further request may ever come."""
        while not self._closing.wait(FLUSH_AFTER_S):
            self._flush_once()
            self._check_accounts()
        self._flush_once()

    def _check_accounts(self) -> None:
        """While nothing is served, a fault of our own is told before it does harm."""
        if self.residency.stats().leased == 0:
            try:
                self.residency.check_integrity()
            except AssertionError as error:
                self.log.error("the accounts of resident adapters are wrong", error=str(error))

    def _flush_once(self) -> None:
        try:
            self.captures.flush()
        except LorimerError as error:
            self.log.warning("captures not written", error=str(error))

    def _spell(self, token: int) -> str:
        return str(self.base.tokenizer.decode([token]))

    def _watch(self) -> None:
        stats, watch = self.engine.stats, self.metrics.watch
        watch("running", "Rows in the batch.", lambda: stats().running)
        watch("waiting", "Rows waiting for a place in the batch.", lambda: stats().waiting)
        watch("kv_use", "Share of the KV cache in use.", lambda: stats().kv_used / max(stats().kv_total, 1))
        watch("batch_adapters", "Distinct adapters in the latest step.", lambda: stats().last_distinct_adapters)
        watch("quarantined", "Versions in quarantine.", lambda: len(self.quarantine.cases()))


def open_gateway(
    settings: Settings,
    registry: Registry,
    base: Base,
    *,
    monitor: Watch | None = None,
    collectors: Iterable[Collector] = (),
    log: FilteringBoundLogger | None = None,
) -> Gateway:
    """Build and start everything a gateway needs around a loaded base and an open registry."""
    registry.register_base(base.profile)
    gateway_id = f"{socket.gethostname().lower()}-{uuid.uuid4().hex[:8]}"
    quarantine = Quarantine(registry.clock)
    turns = Turns(lambda: engine.is_busy)
    engine = Engine.from_settings(base, settings, quarantine.report, turns.give)
    cache = AdapterCache(settings.cache_path(), registry, settings.cache_bytes, pause=turns.take)
    catalog = Catalog(registry, cache, base.profile)
    gateway = Gateway(
        gateway_id=gateway_id,
        registry=registry,
        base=base,
        engine=engine,
        residency=Residency(catalog.fetch, base, settings.adapter_bytes, name_of=catalog.name_of, turns=turns),
        quarantine=quarantine,
        catalog=catalog,
        sensor=Sensor(registry.store, registry.tenant, gateway_id, registry.clock, settings.observe_flush_s),
        captures=CaptureWriter(registry.store, registry.tenant, gateway_id, registry.clock),
        settings=settings,
        monitor=monitor,
        collectors=collectors,
        log=log,
    )
    engine.start()
    return gateway


def request_log(stream: TextIO) -> FilteringBoundLogger:
    """A structlog logger writing one JSON object per line."""
    log: Any = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return log  # type: ignore[no-any-return]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]

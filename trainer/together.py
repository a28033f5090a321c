"""Everything in one process: gateway, monitor and worker around one base, opened in order and closed in reverse.

`lorimer up` and the demo use it. The parts still meet only in the registry: being in one process saves memory, no step.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from monitoring.metrics import DriftCollector
from monitoring.monitor import Monitor
from registry.adapters import Registry, open_registry
from registry.errors import Conflict
from registry.settings import Settings
from registry.store import store_of
from serving.base import Base
from serving.gateway.gateway import open_gateway
from serving.gateway.logs import request_log
from serving.gateway.server import GatewayServer
from trainer.worker import Worker


class Together:
    """Owns the gateway's engine, the monitor's and the worker's threads. The server listens once `start` is called."""

    def __init__(self, settings: Settings, registry: Registry, base: Base, log: TextIO = sys.stderr) -> None:
        """`log` receives one JSON line per HTTP request."""
        self.settings, self.registry, self.base = settings, registry, base
        self.monitor = Monitor(registry, settings)
        self.gateway = open_gateway(
            settings,
            registry,
            base,
            monitor=self.monitor,
            collectors=[DriftCollector(self.monitor)],
            log=request_log(log),
        )
        self.engine = self.gateway.engine
        self.server = GatewayServer(self.gateway)
        self._stop = threading.Event()
        worker = Worker(registry, base, self.engine, settings, neighbours=self._neighbours)
        self._threads = [
            threading.Thread(target=self.monitor.run, args=(self._stop,), name="monitor", daemon=True),
            threading.Thread(target=worker.run, args=(self._stop,), name="worker", daemon=True),
        ]

    def _neighbours(self) -> list[Registry]:
        """Of the tenants that have asked this gateway for something since it started."""
        return [tenant.registry for tenant in self.gateway.tenants.opened()]

    def start_background(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening, let the worker checkpoint, write out what is buffered."""
        self._stop.set()
        self.server.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self.gateway.close()

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ensure_registry(settings: Settings, say: Callable[[str], None]) -> Registry:
    """Open the store's registry; where there is none, probe the store and create it."""
    store = store_of(settings)
    with suppress(Conflict):
        marker = Registry(store, settings.tenant).init()
        say(f"registry {settings.store}, format {marker.format}")
    return open_registry(settings)

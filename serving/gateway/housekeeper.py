"""What a gateway does beside its requests, on a thread of its own: write out captures, check its accounts."""

from __future__ import annotations

import threading

from structlog.typing import FilteringBoundLogger

from registry.captures import FLUSH_AFTER_S
from registry.errors import LorimerError
from serving.gateway.tenancy import Tenants
from serving.residency import Residency


class Housekeeper:
    """Closing it writes what is still in the buffers."""

    def __init__(self, tenants: Tenants, residency: Residency, log: FilteringBoundLogger) -> None:
        self._tenants = tenants
        self._residency = residency
        self._log = log
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-house", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        """Write what the last requests left in the buffers, though no further request may ever come."""
        while not self._closing.wait(FLUSH_AFTER_S):
            self._write_captures()
            self._check_accounts()
        self._write_captures()

    def _write_captures(self) -> None:
        for tenant in self._tenants.opened():
            try:
                tenant.captures.flush()
            except LorimerError as error:
                self._log.warning("captures not written", tenant=tenant.name, error=str(error))

    def _check_accounts(self) -> None:
        """While nothing is served, a fault of our own is told before it does harm."""
        if self._residency.stats().leased == 0:
            try:
                self._residency.check_integrity()
            except AssertionError as error:
                self._log.error("the accounts of resident adapters are wrong", error=str(error))

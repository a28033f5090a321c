"""Takes out captures that may be kept no longer, and what uploads that broke off have left; on a thread of its own.

Of every tenant that this gateway serves.
"""

from __future__ import annotations

import random
import threading
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from registry.captures.upkeep import Upkeep
from registry.errors import LorimerError
from serving.gateway.tenancy import Tenants

CLOSE_S = 5.0


class CaptureUpkeep:
    """Runs about every `period_s`, and not at the same time as the gateways that were started with this one."""

    def __init__(self, tenants: Tenants, period_s: float, log: FilteringBoundLogger) -> None:
        self._tenants = tenants
        self._period_s = period_s
        self._log = log
        self._upkeep: dict[str, Upkeep] = {}
        self._failing: set[str] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-captures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What is being taken out now is finished, or left to the next run."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(self._period_s * random.uniform(0.5, 1.0)):
            for tenant in self._tenants.opened():
                upkeep = self._upkeep.setdefault(tenant.name, Upkeep(tenant.registry))
                try:
                    tended, swept = upkeep.run(), tenant.files.sweep()
                except LorimerError as error:
                    self._tell(tenant.name, error)
                    continue
                self._failing.discard(tenant.name)
                if swept:
                    self._log.info("unfinished uploads taken out", tenant=tenant.name, files=swept)
                if tended.late or any(msgspec.structs.astuple(tended.expired)):
                    expired: dict[str, Any] = msgspec.structs.asdict(tended.expired)
                    self._log.info("captures taken out", tenant=tenant.name, late=tended.late, **expired)

    def _tell(self, tenant: str, error: LorimerError) -> None:
        """Once, until it works again: a gateway that may not delete serves all the same."""
        if tenant not in self._failing:
            self._log.warning("captures not looked after", tenant=tenant, error=str(error))
        self._failing.add(tenant)

"""What was lost of the tenants' records, as Prometheus metrics: nothing should be, so each is worth an alert."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.gateway.capturing import Capturing
from serving.gateway.tenancy import Tenants


class TenantsCollector(Collector):
    def __init__(self, tenants: Tenants, capturing: Capturing) -> None:
        self._tenants = tenants
        self._capturing = capturing

    def collect(self) -> Iterator[Metric]:
        opened = self._tenants.opened()
        yield GaugeMetricFamily("lorimer_tenants", "Tenants that requests came for.", value=len(opened))
        lost = {
            "observations_dropped": (
                "Observations lost because the store did not take them for too long.",
                sum(tenant.sensor.num_dropped for tenant in opened),
            ),
            "captures_dropped": (
                "Captured requests lost because the store did not take them for too long.",
                sum(tenant.captures.num_dropped for tenant in opened),
            ),
            "captures_unredacted": (
                "Texts that were not kept because they could not be redacted.",
                self._capturing.num_unredacted,
            ),
        }
        for name, (text, value) in lost.items():
            yield CounterMetricFamily(f"lorimer_{name}", text, value=value)

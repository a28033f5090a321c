from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from monitoring.episodes import STATES
from monitoring.metrics import DriftCollector


def test_what_a_scrape_shows(world: Any) -> None:
    drifted, steady = world.publish("drifted"), world.publish("steady")
    blind = world.publish("blind", with_reference=False)
    monitor, registry = world.monitor(), CollectorRegistry()
    registry.register(DriftCollector(monitor))
    world.send(drifted, world.embeddings(60, 4, shift=6.0))
    world.send(steady, world.embeddings(7, 5))
    world.send(blind, world.embeddings(2, 6))
    world.settle()
    monitor.poll()
    text = generate_latest(registry).decode()
    value = registry.get_sample_value
    assert value("lorimer_drift_observations_total", {"adapter": "steady"}) == 7
    assert value("lorimer_drift_state", {"adapter": "drifted"}) == STATES.index("DRIFT")
    alarms = value("lorimer_drift_alarms_total", {"adapter": "drifted"})
    expected = value("lorimer_drift_expected_false_alarms_total", {"adapter": "drifted"})
    assert alarms is not None
    assert expected is not None
    assert alarms >= 1
    assert 0 < expected <= 60 / 1000 + 1e-9
    assert value("lorimer_drift_mmd", {"adapter": "blind"}) is None
    assert value("lorimer_drift_log_threshold", {"adapter": "steady"}) is not None
    assert "lorimer_drift_log_evidence" in text
    assert "tenant" not in text

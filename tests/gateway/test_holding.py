"""A gateway tells collectors what it may still read; and spreads an alias over its versions by weight."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from registry.errors import Refused
from registry.gc import collect
from registry.pins import Pins
from serving.gateway.holding import LEASE_S, RENEW_S, Holder
from serving.gateway.logs import request_log

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_what_requests_choose_is_held_against_a_collector(fresh: Running) -> None:
    registry = fresh.registry
    version = fresh.publish("held", 1, prod=False)
    now = [0.0]
    holder = Holder(fresh.gateway.home.catalog, request_log(io.StringIO()), lambda: now[0])
    pins = Pins(registry.store, registry.tenant, registry.clock)
    fresh.chat("held@v1", max_tokens=1)
    holder.renew(())
    assert holder.name in {pin.gateway for pin in pins.standing() if version.digest in pin.held.get("held", ())}
    registry.delete("held", "v1")
    (report,) = collect(registry, ["held"], grace_s=0.0)
    assert {finding.goes for finding in report.blobs} == {False}
    assert all("may still read it" in finding.why for finding in report.blobs)
    fresh.gateway.home.catalog.known._clock = lambda: float("inf")
    now[0] += RENEW_S / 2
    holder.renew(())
    assert pins.standing(), "seldom"
    now[0] += RENEW_S
    holder.renew(())
    assert holder.name not in {pin.gateway for pin in pins.standing()}
    now[0] += RENEW_S
    holder.renew({version.digest})
    assert holder.name in {pin.gateway for pin in pins.standing()}, "pinned in memory"
    holder.release()
    assert holder.name not in {pin.gateway for pin in pins.standing()}
    assert LEASE_S > 2 * RENEW_S


def test_a_store_that_takes_no_pins_is_told_of_once(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str, data: bytes) -> None:
        raise Refused("reading only")

    fresh.publish("unheld", 1)
    fresh.gateway.home.catalog.choose("unheld")
    written, now = io.StringIO(), [0.0]
    monkeypatch.setattr(fresh.registry.store, "put", refuse)
    holder = Holder(fresh.gateway.home.catalog, request_log(written), lambda: now[0])
    for _ in range(3):
        holder.renew(())
        now[0] += RENEW_S
    assert written.getvalue().count("reading only") == 1


def test_a_quarantined_version_is_refused_until_it_is_rolled_back(fresh: Running) -> None:
    first, _ = fresh.publish("ill", 1), fresh.publish("ill", 2)
    fresh.registry.quarantine("ill", "prod", "leaks names")
    refused = fresh.chat("ill", max_tokens=1)
    assert refused.status_code == 403
    assert "leaks names" in refused.text
    fresh.registry.rollback("ill")
    assert fresh.chat("ill", max_tokens=1).headers["x-adapter-digest"] == first.digest

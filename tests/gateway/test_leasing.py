"""Waiting for a cold adapter holds up nobody else, and whoever stops waiting leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from serving.gateway.leasing import lease_of

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

WAITING = 100
"""More than there are threads that may block."""


@pytest.fixture
def gate(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Closed: a load that begins now waits at the store."""
    opened, fetch = threading.Event(), running.gateway.residency._fetch

    def slow(digest: str) -> Path:
        assert opened.wait(30)
        return fetch(digest)

    monkeypatch.setattr(running.gateway.residency, "_fetch", slow)
    yield opened
    opened.set()


def test_a_hundred_who_wait_do_not_hold_up_another(running: Running, gate: threading.Event) -> None:
    running.publish("slow-to-come", 71)
    body = {"model": "slow-to-come", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=WAITING)
        async with httpx.AsyncClient(base_url=running.server.url, timeout=60, limits=limits) as http:
            cold = [asyncio.create_task(http.post("/v1/chat/completions", json=body)) for _ in range(WAITING)]
            while running.gateway.residency.stats().loading == 0:
                await asyncio.sleep(0.01)
            hot = await asyncio.to_thread(running.chat, running.base_name, max_tokens=1)
            assert hot.status_code == 200
            assert not any(task.done() for task in cold)
            gate.set()
            return await asyncio.gather(*cold)

    misses = running.gateway.residency.stats().misses
    answers = asyncio.run(ask_all())
    assert {answer.status_code for answer in answers} == {200}
    assert running.gateway.residency.stats().misses > misses


def test_whoever_hangs_up_while_it_loads_leaves_no_lease(running: Running, gate: threading.Event) -> None:
    running.publish("left-early", 72)
    gateway = running.gateway
    single = gateway.home.catalog.choose("left-early")

    async def leave(wait_s: float) -> None:
        task = asyncio.create_task(lease_of(single, gateway.residency, gateway.base))
        await asyncio.sleep(wait_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def all_leave() -> None:
        await asyncio.gather(*(leave(wait_s) for wait_s in (0.0, 0.01, 0.05)))
        gate.set()
        lease = await lease_of(single, gateway.residency, gateway.base)
        assert lease is not None
        lease.release()

    asyncio.run(all_leave())
    assert gateway.residency.stats().leased == 0
    gateway.residency.check_integrity()

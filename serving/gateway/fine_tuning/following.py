"""A job's events as server-sent events, until it ends. Knows how to wait; the diary knows what to tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from registry.errors import LorimerError
from serving.gateway.dialect.streaming import DONE, HEARTBEAT_S, KEEP_ALIVE, event
from serving.gateway.errors import envelope
from serving.gateway.fine_tuning.diary import Diary
from serving.gateway.gateway import Gateway
from serving.gateway.tenancy import Tenant
from serving.gateway.trace import Trace
from serving.gateway.wire.fine_tuning import JobEvent

POLL_S = 1.0


async def follow(gateway: Gateway, tenant: Tenant, job_id: str, after: int, trace: Trace) -> AsyncIterator[bytes]:
    """Every event after number `after`, oldest first; then [DONE]. It stops without, where the gateway stops first."""
    told_at = time.monotonic()
    try:
        while not gateway.draining:
            job = await gateway.in_thread(tenant.jobs.get, job_id)
            entries: tuple[JobEvent, ...] = ()
            if job.num_events > after:
                entries = tuple(await gateway.in_thread(Diary(tenant.jobs, job).following, after))
                after = job.num_events
            for entry in entries:
                yield event(entry)
            if job.finished:
                yield DONE
                return
            if entries:
                told_at = time.monotonic()
            elif time.monotonic() - told_at >= HEARTBEAT_S:
                told_at = time.monotonic()
                yield KEEP_ALIVE
            await asyncio.sleep(POLL_S)
    except LorimerError as error:
        trace.failure = error
        yield event(envelope(error))

"""A reader takes all that has come, waits when nothing has, and notices silence."""

from __future__ import annotations

import asyncio
import gc
import weakref

from serving.gateway.alarm import Alarm
from serving.gateway.arrivals import Arrivals

LONG_S = 60.0


def test_all_that_has_come_is_taken_at_once() -> None:
    async def run() -> None:
        arrivals = Arrivals[int](asyncio.get_running_loop())
        arrivals.add(1)
        arrivals.add(2)
        assert await arrivals.take(LONG_S) == [1, 2]
        asyncio.get_running_loop().call_later(0.01, arrivals.add, 3)
        assert await arrivals.take(LONG_S) == [3]

    asyncio.run(run())


def test_silence_is_told_and_ends() -> None:
    async def run() -> None:
        arrivals = Arrivals[int](asyncio.get_running_loop())
        assert await arrivals.take(0.01) == []
        assert await arrivals.take(0.01) == []
        arrivals.add(1)
        assert await arrivals.take(0.01) == [1]

    asyncio.run(run())


def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async def run() -> None:
        arrivals = Arrivals[int](asyncio.get_running_loop())
        reading = asyncio.create_task(arrivals.take(LONG_S))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        arrivals.add(1)
        assert await arrivals.take(LONG_S) == [1]

    asyncio.run(run())


def test_an_alarm_rings_when_it_was_last_set_to() -> None:
    async def run() -> None:
        loop, rung = asyncio.get_running_loop(), list[float]()
        alarm = Alarm(lambda: rung.append(loop.time()), loop)
        alarm.set(LONG_S)
        alarm.set(0.02)
        await asyncio.sleep(0.01)
        due = loop.time() + 0.04
        alarm.set(0.04)
        await asyncio.sleep(0.1)
        (at,) = rung
        assert at >= due

    asyncio.run(run())


def test_an_alarm_that_was_cleared_is_silent() -> None:
    async def run() -> None:
        loop, rung = asyncio.get_running_loop(), list[float]()
        alarm = Alarm(lambda: rung.append(loop.time()), loop)
        alarm.set(0.01)
        alarm.clear()
        await asyncio.sleep(0.03)
        assert rung == []

    asyncio.run(run())


def test_an_alarm_that_was_closed_keeps_nothing_alive() -> None:
    class Watched:
        def ring(self) -> None: ...

    async def run() -> None:
        watched = Watched()
        alarm = Alarm(watched.ring, asyncio.get_running_loop())
        alarm.set(LONG_S)
        alarm.close()
        gone = weakref.ref(watched)
        del watched, alarm
        gc.collect()
        assert gone() is None

    asyncio.run(run())

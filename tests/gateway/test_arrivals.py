"""A reader takes all that has come, waits when nothing has, and notices silence."""

from __future__ import annotations

import asyncio
import gc
import weakref

from serving.gateway.alarm import Alarm
from serving.gateway.arrivals import Arrivals

LONG_S = 60.0


def test_all_that_has_come_is_taken_at_once_up_to_the_end() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        arrivals = Arrivals[int](loop)
        arrivals.add(1)
        arrivals.add(2)
        loop.call_later(0.02, arrivals.add, 3)
        loop.call_later(0.04, arrivals.end)
        assert [batch async for batch in arrivals.batches(LONG_S)] == [[1, 2], [3]]
        assert [batch async for batch in arrivals.batches(LONG_S)] == []

    asyncio.run(run())


def test_what_came_before_the_end_is_read_after_it() -> None:
    async def run() -> None:
        arrivals = Arrivals[int](asyncio.get_running_loop())
        arrivals.add(1)
        arrivals.end()
        assert [batch async for batch in arrivals.batches(LONG_S)] == [[1]]

    asyncio.run(run())


def test_silence_is_told_as_often_as_it_lasts() -> None:
    async def run() -> None:
        arrivals = Arrivals[int](asyncio.get_running_loop())
        batches = arrivals.batches(0.02)
        assert await anext(batches) == []
        assert await anext(batches) == []
        arrivals.add(1)
        assert await anext(batches) == [1]
        arrivals.end()

    asyncio.run(run())


def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async def run() -> None:
        arrivals = Arrivals[int](asyncio.get_running_loop())
        reading = asyncio.ensure_future(anext(arrivals.batches(LONG_S)))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        arrivals.add(1)
        arrivals.end()
        assert [batch async for batch in arrivals.batches(LONG_S)] == [[1]]

    asyncio.run(run())


def test_an_alarm_is_silent_while_it_is_told_of_life() -> None:
    async def run() -> None:
        loop, rung = asyncio.get_running_loop(), list[float]()
        alarm = Alarm(lambda: rung.append(loop.time()), loop)
        alarm.watch(0.4)
        for _ in range(30):
            alarm.signs += 1
            await asyncio.sleep(0.02)
        last = loop.time()
        assert rung == []
        while not rung:
            await asyncio.sleep(0.02)
        alarm.close()
        assert rung[0] - last >= 0.3

    asyncio.run(run())


def test_an_alarm_that_was_closed_keeps_nothing_alive() -> None:
    class Watched:
        def ring(self) -> None: ...

    async def run() -> None:
        watched = Watched()
        alarm = Alarm(watched.ring, asyncio.get_running_loop())
        alarm.watch(LONG_S)
        alarm.close()
        gone = weakref.ref(watched)
        del watched, alarm
        gc.collect()
        assert gone() is None

    asyncio.run(run())

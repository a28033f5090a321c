"""Events cross from another thread to the loop: in order, together, and each on its own when one fails."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from serving.gateway.post import Post


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_what_piles_up_wakes_the_loop_once() -> None:
    async def run() -> None:
        loop, post, got, wakes = asyncio.get_running_loop(), Post(), list[int](), list[object]()
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *told: wakes.append(told) or wake(*told)  # type: ignore[method-assign, func-returns-value]
        for number in range(16):
            post.put(loop, lambda number=number: got.append(number))  # type: ignore[misc]
        await settle()
        assert got == []
        post.send()
        await settle()
        assert got == list(range(16))
        assert len(wakes) == 1
        post.send()
        assert len(wakes) == 1
        post.put(loop, lambda: got.append(16))
        post.send()
        await settle()
        assert got == list(range(17))
        assert len(wakes) == 2

    asyncio.run(run())


def test_nothing_is_lost_between_threads() -> None:
    async def run() -> None:
        loop, post, got = asyncio.get_running_loop(), Post(), list[int]()

        def work() -> None:
            for number in range(20_000):
                post.put(loop, lambda number=number: got.append(number))  # type: ignore[misc]
                if number % 16 == 15:
                    post.send()

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0)
        await settle()
        assert got == list(range(20_000))

    asyncio.run(run())


def test_one_that_fails_takes_no_other_along() -> None:
    async def run() -> None:
        loop, post, got, told = asyncio.get_running_loop(), Post(), list[str](), list[dict[str, Any]]()
        loop.set_exception_handler(lambda _, context: told.append(context))
        post.put(loop, lambda: got.append("first"))
        post.put(loop, lambda: got.append(1 / 0))  # type: ignore[arg-type]
        post.put(loop, lambda: got.append("last"))
        post.send()
        await settle()
        assert got == ["first", "last"]
        assert isinstance(told[0]["exception"], ZeroDivisionError)

    asyncio.run(run())


def test_a_loop_that_is_gone_is_no_error() -> None:
    loop, post, got = asyncio.new_event_loop(), Post(), list[int]()
    loop.close()
    post.put(loop, lambda: got.append(1))
    post.send()
    assert got == []

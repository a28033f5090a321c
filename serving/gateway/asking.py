"""Asking the engine on behalf of one HTTP request, and noticing when nobody listens any more. Writes no document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from litestar.response import Stream
from litestar.types import Receive

from serving.gateway.caller import caller_of
from serving.gateway.calls import Call, begin
from serving.gateway.dialect.question import Question
from serving.gateway.errors import Gone
from serving.gateway.exchange import AnyRequest, gateway_of

T = TypeVar("T")

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def ask(request: AnyRequest, question: Question) -> Call:
    """The call once every row of it has ended well."""
    return await unless_disconnected(request.receive, _whole(_begun(request, question)))


async def begin_asking(request: AnyRequest, question: Question) -> Call:
    """The call as soon as it is with the engine, to be streamed."""
    return await unless_disconnected(request.receive, _begun(request, question))


def streamed(call: Call, events: AsyncIterator[bytes]) -> Stream:
    """The events as they come; the rows are freed when the client stops taking them, too."""
    call.trace.at_end = call.generation.abort
    return Stream(events, media_type="text/event-stream", headers={**HEADERS, **call.headers()})


async def _begun(request: AnyRequest, question: Question) -> Call:
    return await begin(gateway_of(request), caller_of(request), question)


async def _whole(beginning: Coroutine[Any, Any, Call]) -> Call:
    call = await beginning
    try:
        await call.generation.finished()
    finally:
        call.generation.abort()
    return call


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, cancelling it when the client hangs up, which the framework would not tell a unary handler."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Gone("the client hung up before the answer was complete")
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

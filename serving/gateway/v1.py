"""OpenAI's dialect: /v1/chat/completions, /v1/completions, /v1/models, /v1/feedback."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.response import Stream
from litestar.types import Receive

from registry.captures import FeedbackRecord
from registry.errors import Invalid, NotFound
from serving.gateway.bodies import parse
from serving.gateway.calls import Body, Call, begin
from serving.gateway.errors import Gone
from serving.gateway.gateway import Gateway
from serving.gateway.recorder import Answered
from serving.gateway.schemas import (
    ChatRequest,
    CompletionRequest,
    FeedbackReceipt,
    FeedbackRequest,
    ModelCard,
    ModelList,
)
from serving.gateway.streaming import HEADERS, stream
from serving.gateway.trace import trace_of

AnyRequest = Request[Any, Any, Any]
T = TypeVar("T")


async def read(request: AnyRequest, kind: type[T]) -> T:
    """The body as a `kind`. Requiring JSON's content type keeps web pages of other origins from posting here."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(status_code=415, detail="the content-type must be application/json")
    return parse(await request.body(), kind)


@post("/v1/chat/completions", status_code=200)
async def chat_completions(request: AnyRequest, gateway: Gateway) -> Response[Any]:
    """Answer a conversation with the adapter that `model` names."""
    return await _generate(request, gateway, await read(request, ChatRequest))


@post("/v1/completions", status_code=200)
async def completions(request: AnyRequest, gateway: Gateway) -> Response[Any]:
    """Continue one or several prompts with the adapter that `model` names."""
    return await _generate(request, gateway, await read(request, CompletionRequest))


@get("/v1/models")
async def list_models(gateway: Gateway) -> Response[bytes]:
    """The base, and every adapter under each of its aliases."""
    cards = await gateway.in_thread(gateway.catalog.cards)
    return _json(ModelList(data=[_sized(card, gateway) for card in cards]))


@get("/v1/models/{model:path}")
async def show_model(model: str, gateway: Gateway) -> Response[bytes]:
    card = await gateway.in_thread(gateway.catalog.card, model.removeprefix("/"))
    return _json(_sized(card, gateway))


@post("/v1/feedback", status_code=200)
async def feedback(request: AnyRequest, gateway: Gateway) -> Response[bytes]:
    """Record a correction or a rating of an earlier answer; durable once this returns 200."""
    body = await read(request, FeedbackRequest)
    if body.correction is None and body.rating is None:
        raise Invalid("give a correction, a rating, or both", param="correction", code="invalid_value")
    answered = await _answered(gateway, body)
    if answered.adapter is None:
        raise Invalid("the bare base answered this request; feedback is for adapters", param="request_id")
    record = FeedbackRecord(
        request_id=answered.call_id,
        time=gateway.registry.clock(),
        adapter=answered.adapter,
        correction=body.correction,
        rating=body.rating,
    )
    await gateway.in_thread(gateway.captures.feedback, record)
    trace_of(request.scope).fields |= {"adapter": answered.adapter, "feedback_for": answered.call_id}
    return _json(FeedbackReceipt(request_id=answered.call_id, adapter=answered.adapter))


async def _answered(gateway: Gateway, body: FeedbackRequest) -> Answered:
    """From memory; a request older than that, or of another gateway, must say which model it was for."""
    if answered := gateway.recorder.find(body.request_id):
        return answered
    if body.model is None:
        raise NotFound(f"no request {body.request_id!r} is remembered here", hint="name its `model` as well")
    choice = await gateway.in_thread(gateway.catalog.choose, body.model)
    return Answered(body.request_id, choice.adapter)


async def _generate(request: AnyRequest, gateway: Gateway, body: Body) -> Response[Any]:
    trace, session = trace_of(request.scope), request.headers.get("x-session-id")
    if not body.stream:
        call = await unless_disconnected(request.receive, _whole(begin(gateway, body, trace, session)))
        return _json(call.whole(), call.headers())
    call = await begin(gateway, body, trace, session)
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunks = stream(call, include_usage=include_usage)
    return Stream(chunks, media_type="text/event-stream", headers={**HEADERS, **call.headers()})


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


def _sized(card: ModelCard, gateway: Gateway) -> ModelCard:
    return msgspec.structs.replace(card, max_model_len=gateway.context_length)


def _json(document: object, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(msgspec.json.encode(document), media_type="application/json", headers=headers)


ROUTES = [chat_completions, completions, list_models, show_model, feedback]

"""OpenAI's dialect: /v1/chat/completions, /v1/completions, /v1/models, /v1/feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from registry.captures import FeedbackRecord
from registry.errors import Invalid, NotFound
from serving.gateway.access import SCOPE
from serving.gateway.asking import ask, begin_asking, streamed
from serving.gateway.calls import Call
from serving.gateway.capturing import names_of
from serving.gateway.dialect.answers import Answers, whole
from serving.gateway.dialect.chat_answer import ChatAnswers
from serving.gateway.dialect.chat_question import ChatQuestion
from serving.gateway.dialect.question import Question
from serving.gateway.dialect.streaming import stream
from serving.gateway.dialect.text_answer import TextAnswers
from serving.gateway.dialect.text_question import TextQuestion
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.gateway import Gateway
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import principal_of
from serving.gateway.recorder import Answered
from serving.gateway.tenancy import Tenant, tenant_of
from serving.gateway.trace import trace_of
from serving.gateway.wire.answer import ChatChunk, ChatCompletion, TextCompletion
from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.completion import CompletionRequest
from serving.gateway.wire.feedback import FeedbackReceipt, FeedbackRequest
from serving.gateway.wire.generation import Generate
from serving.gateway.wire.model import ModelCard, ModelList


@post(
    "/v1/chat/completions",
    status_code=200,
    opt={
        SCOPE: "infer",
        OPERATION: Operation(body=ChatRequest, answer=ChatCompletion, events=ChatChunk, generates=True),
    },
)
async def chat_completions(request: AnyRequest) -> Response[Any]:
    """Answer a conversation with the adapter that `model` names."""
    body, spell = await read(request, ChatRequest), gateway_of(request).spell
    question = ChatQuestion(body)
    return await _respond(request, body, question, lambda _: ChatAnswers(spell, question.offer))


@post(
    "/v1/completions",
    status_code=200,
    opt={
        SCOPE: "infer",
        OPERATION: Operation(body=CompletionRequest, answer=TextCompletion, events=TextCompletion, generates=True),
    },
)
async def completions(request: AnyRequest) -> Response[Any]:
    """Continue one or several prompts with the adapter that `model` names."""
    body, spell = await read(request, CompletionRequest), gateway_of(request).spell
    question = TextQuestion(body)
    return await _respond(request, body, question, lambda call: TextAnswers(spell, question, call.prompts))


@get("/v1/models", opt={SCOPE: "infer", OPERATION: Operation(answer=ModelList)})
async def list_models(request: AnyRequest) -> Response[bytes]:
    """The base, and every adapter under each of its aliases."""
    gateway = gateway_of(request)
    cards = await gateway.in_thread(tenant_of(request).catalog.cards.all)
    may_use = principal_of(request).may_use
    return respond(ModelList(data=[_sized(card, gateway) for card in cards if may_use(card.id)]))


@get("/v1/models/{model:path}", opt={SCOPE: "infer", OPERATION: Operation(answer=ModelCard)})
async def show_model(request: AnyRequest, model: FromPath[str]) -> Response[bytes]:
    """One model, named as `model` names one in a request: what it is now."""
    gateway = gateway_of(request)
    card = await gateway.in_thread(tenant_of(request).catalog.card, model.removeprefix("/"))
    return respond(_sized(card, gateway))


@post(
    "/v1/feedback",
    status_code=200,
    opt={SCOPE: "infer", OPERATION: Operation(body=FeedbackRequest, answer=FeedbackReceipt)},
)
async def feedback(request: AnyRequest) -> Response[bytes]:
    """Record a correction or a rating of an earlier answer; durable once this returns 200."""
    gateway, tenant, body = gateway_of(request), tenant_of(request), await read(request, FeedbackRequest)
    if body.correction is None and body.rating is None:
        raise Invalid("give a correction, a rating, or both", param="correction", code="invalid_value")
    if body.model is not None:
        principal_of(request).require_use(body.model)
    answered = await _answered(gateway, tenant, body)
    if answered.adapter is None:
        raise Invalid("no single adapter answered this request; feedback is for adapters", param="request_id")
    principal_of(request).require_use(answered.adapter)
    record = FeedbackRecord(
        request_id=answered.call_id,
        time=tenant.registry.clock(),
        adapter=answered.adapter,
        correction=body.correction,
        rating=body.rating,
        users=await gateway.in_thread(names_of, [body.user] if body.user else [], tenant.pseudonyms),
    )
    await gateway.in_thread(gateway.recorder.capturing.feedback, record, tenant.captures, answered.redact)
    gateway.recorder.judged(answered, body.rating, corrected=body.correction is not None)
    trace_of(request).fields |= {"adapter": answered.adapter, "feedback_for": answered.call_id}
    return respond(FeedbackReceipt(request_id=answered.call_id, adapter=answered.adapter))


async def _answered(gateway: Gateway, tenant: Tenant, body: FeedbackRequest) -> Answered:
    """From memory; a request older than that, or of another gateway, must say which model it was for."""
    if answered := gateway.recorder.find(tenant.name, body.request_id):
        return answered
    if body.model is None:
        raise NotFound(f"no request {body.request_id!r} is remembered here", hint="name its `model` as well")
    choice = await gateway.in_thread(tenant.catalog.choose, body.model)
    return Answered(body.request_id, choice.adapter, redact=choice.redact)


async def _respond(
    request: AnyRequest, body: Generate, question: Question, answers_of: Callable[[Call], Answers]
) -> Response[Any]:
    if not body.stream:
        call = await ask(request, question)
        return respond(whole(call, answers_of(call)), call.headers())
    call = await begin_asking(request, question)
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    return streamed(call, stream(call, answers_of(call), include_usage=include_usage))


def _sized(card: ModelCard, gateway: Gateway) -> ModelCard:
    return msgspec.structs.replace(card, max_model_len=gateway.engine.max_context)


ROUTES = [chat_completions, completions, list_models, show_model, feedback]

"""/v1/responses: create one; there is nothing to be retrieved, for nothing is kept."""

from __future__ import annotations

from typing import Any

from litestar import Response, post

from serving.gateway.access import SCOPE
from serving.gateway.asking import ask, begin_asking, streamed
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.responses.question import ResponseQuestion
from serving.gateway.responses.writing import Writer
from serving.gateway.wire.response import ModelResponse, ResponseEvent, ResponseRequest


@post(
    "/v1/responses",
    status_code=200,
    opt={
        SCOPE: "infer",
        OPERATION: Operation(body=ResponseRequest, answer=ModelResponse, events=ResponseEvent, generates=True),
    },
)
async def create_response(request: AnyRequest) -> Response[Any]:
    """Answer an input with the adapter that `model` names, in OpenAI's newer dialect; nothing is kept."""
    body, spell = await read(request, ResponseRequest), gateway_of(request).spell
    question = ResponseQuestion(body)
    if not body.stream:
        call = await ask(request, question)
        return respond(Writer(call, question, spell).whole(), call.headers())
    call = await begin_asking(request, question)
    return streamed(call, Writer(call, question, spell).events())


ROUTES = [create_response]

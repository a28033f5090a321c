"""/v1/tokenize and /v1/detokenize, as vLLM has them; an adapter changes no tokenizer, but it must exist."""

from __future__ import annotations

from litestar import Response, post

from registry.errors import Invalid
from serving.base import Base
from serving.gateway.access import SCOPE
from serving.gateway.caller import caller_of
from serving.gateway.dialect.messages import template_messages, texts_of
from serving.gateway.dialect.question import refuse
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import principal_of
from serving.gateway.tenancy import tenant_of
from serving.gateway.tools.offer import Offer, offer_of
from serving.gateway.wire.token import DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse


@post(
    ["/v1/tokenize", "/tokenize"],
    status_code=200,
    opt={SCOPE: "infer", OPERATION: Operation(body=TokenizeRequest, answer=TokenizeResponse)},
)
async def tokenize(request: AnyRequest) -> Response[bytes]:
    """The token ids of a text, or of a conversation under the base's chat template."""
    gateway, body = gateway_of(request), await read(request, TokenizeRequest)
    _check(body)
    await _check_model(request, body.model)
    offer = offer_of(gateway.base, body.tools, None, None)
    texts = [body.prompt or "", *(text for message in body.messages or () for text in texts_of(message))]
    if offer is not None:
        texts.append(offer.spelled)

    def tokenised(base: Base) -> TokenizeResponse:
        tokens = _tokens(base, body, offer)
        spelled = base.tokenizer.convert_ids_to_tokens(tokens) if body.return_token_strs else None
        limit = gateway.engine.max_context
        return TokenizeResponse(count=len(tokens), max_model_len=limit, tokens=tokens, token_strs=spelled)

    with gateway.admission.visit(caller_of(request)):
        return respond(await gateway.reading.run(tokenised, sum(map(len, texts))))


@post(
    ["/v1/detokenize", "/detokenize"],
    status_code=200,
    opt={SCOPE: "infer", OPERATION: Operation(body=DetokenizeRequest, answer=DetokenizeResponse)},
)
async def detokenize(request: AnyRequest) -> Response[bytes]:
    """The text of token ids, special tokens as they are spelled."""
    gateway, body = gateway_of(request), await read(request, DetokenizeRequest)
    await _check_model(request, body.model)
    vocab_size = gateway.base.profile.vocab_size
    outside = next((each for each in body.tokens if each >= vocab_size), None)
    if outside is not None:
        raise Invalid(f"token id {outside} is outside the vocabulary", param="tokens", code="invalid_value")
    with gateway.admission.visit(caller_of(request)):
        text = await gateway.reading.run(lambda base: str(base.tokenizer.decode(body.tokens)), len(body.tokens))
    return respond(DetokenizeResponse(prompt=text))


def _check(body: TokenizeRequest) -> None:
    if (body.prompt is None) == (body.messages is None):
        raise Invalid("give either a prompt or messages", param="prompt", code="invalid_value")
    if body.messages is None:
        refuse({"tools": bool(body.tools)})
    refuse(
        {
            "continue_final_message": bool(body.continue_final_message),
            "chat_template": body.chat_template is not None,
            "chat_template_kwargs": bool(body.chat_template_kwargs),
            "add_special_tokens": body.messages is not None and bool(body.add_special_tokens),
        }
    )


async def _check_model(request: AnyRequest, model: str | None) -> None:
    if model is not None:
        principal_of(request).require_use(model)
        await gateway_of(request).in_thread(tenant_of(request).catalog.choose, model)


def _tokens(base: Base, body: TokenizeRequest, offer: Offer | None) -> list[int]:
    if body.messages is None:
        add_special = True if body.add_special_tokens is None else body.add_special_tokens
        ids: list[int] = base.tokenizer.encode(body.prompt or "", add_special_tokens=add_special)
        return ids
    tools = None if offer is None else offer.described()
    return base.render(template_messages(body.messages), body.add_generation_prompt, tools)


ROUTES = [tokenize, detokenize]

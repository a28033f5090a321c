"""From the wire's words to the engine's: sampling parameters and prompts. Applies no template and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.errors import Invalid
from serving.gateway.wire.chat import ChatRequest, Message
from serving.gateway.wire.completion import CompletionRequest
from serving.gateway.wire.generation import Generate
from serving.request import Sampling

if TYPE_CHECKING:
    from serving.grammar import Grammar, Grammars

COMPLETION_MAX_TOKENS = 16
"""What OpenAI's /v1/completions writes when the caller gives no `max_tokens`."""
MAX_PROMPTS = 64
MAX_DIGITS = 9

Prompt = str | tuple[int, ...]


def refuse_unsupported(request: ChatRequest | CompletionRequest) -> None:
    """Invalid for a field whose silent omission would change the answer."""
    if isinstance(request, ChatRequest):
        refused = {
            "tools": bool(request.tools),
            "functions": bool(request.functions),
            "tool_choice": request.tool_choice not in (None, "none", "auto"),
            "audio": request.audio is not None,
            "modalities": request.modalities not in (None, [], ["text"]),
        }
    else:
        refused = {
            "echo": bool(request.echo and request.stream and request.logprobs is not None),
            "suffix": bool(request.suffix),
            "best_of": request.best_of is not None and request.best_of != (request.n or 1),
        }
    for param, present in refused.items():
        if present:
            raise Invalid(f"{param} is not supported here", param=param, code="unsupported_parameter")


def messages_of(request: ChatRequest) -> list[dict[str, str]]:
    """The conversation as the chat template takes it: text only, `developer` being a `system` of another name."""
    return [
        {"role": "system" if message.role == "developer" else message.role, "content": _text(message, index)}
        for index, message in enumerate(request.messages)
    ]


def _text(message: Message, index: int) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = []
    for number, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            where = f"messages[{index}].content[{number}]"
            raise Invalid(f"only text parts are supported, not {part.type!r}", param=where, code="invalid_value")
        texts.append(part.text)
    return "".join(texts)


def prompts_of(request: CompletionRequest, vocab_size: int) -> list[Prompt]:
    """One or several prompts: a string, token ids, or a list of either."""
    given = request.prompt
    if isinstance(given, str):
        return [given]
    if given and all(_is_id(each) for each in given):
        return [_ids(given, "prompt", vocab_size)]
    if not 1 <= len(given) <= MAX_PROMPTS:
        raise Invalid(f"between 1 and {MAX_PROMPTS} prompts are accepted", param="prompt", code="invalid_value")
    return [
        each if isinstance(each, str) else _ids(each, f"prompt[{index}]", vocab_size)
        for index, each in enumerate(given)
    ]


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(value: object, param: str, vocab_size: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(_is_id(each) for each in value):
        raise Invalid("a prompt is a string or a list of token ids", param=param, code="invalid_value")
    if outside := next((each for each in value if not 0 <= each < vocab_size), None):
        raise Invalid(f"token id {outside} is outside the vocabulary", param=param, code="invalid_value")
    return tuple(value)


def sampling_of(
    request: ChatRequest | CompletionRequest, prompt_tokens: int, context_length: int, grammar: Grammar | None = None
) -> Sampling:
    """The engine's sampling parameters; Invalid(context_length_exceeded) when the prompt and answer cannot fit."""
    max_tokens = _max_tokens(request, prompt_tokens, context_length)
    min_tokens = request.min_tokens or 0
    if min_tokens > max_tokens:
        raise Invalid("min_tokens exceeds max_tokens", param="min_tokens", code="invalid_value")
    stop = request.stop or ()
    return Sampling(
        temperature=_or(request.temperature, 1.0),
        top_p=_or(request.top_p, 1.0),
        top_k=max(request.top_k or 0, 0),
        min_p=_or(request.min_p, 0.0),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        seed=request.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        repetition_penalty=_or(request.repetition_penalty, 1.0),
        logprobs=_logprobs(request),
        logit_bias=_logit_bias(request),
        grammar=grammar,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _max_tokens(request: ChatRequest | CompletionRequest, prompt_tokens: int, context_length: int) -> int:
    if prompt_tokens == 0:
        raise Invalid("the prompt is empty", param=_prompt_param(request), code="invalid_value")
    room = context_length - prompt_tokens
    wanted = request.max_tokens
    if isinstance(request, ChatRequest):
        wanted = request.max_completion_tokens or wanted
    elif wanted is None:
        wanted = max(min(COMPLETION_MAX_TOKENS, room), 1)
    elif wanted == 0 and not request.echo:
        raise Invalid("max_tokens 0 needs echo: true", param="max_tokens", code="invalid_value")
    least = 1 if wanted is None else wanted
    if room < least:
        raise Invalid(
            f"this model's maximum context length is {context_length} tokens, but {prompt_tokens} tokens of prompt "
            f"and {least} of answer were asked for",
            param=_prompt_param(request),
            code="context_length_exceeded",
        )
    return room if wanted is None else wanted


def _prompt_param(request: Generate) -> str:
    return "messages" if isinstance(request, ChatRequest) else "prompt"


def _logprobs(request: ChatRequest | CompletionRequest) -> int | None:
    if isinstance(request, CompletionRequest):
        return request.logprobs
    if request.top_logprobs is not None and not request.logprobs:
        raise Invalid("top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
    return (request.top_logprobs or 0) if request.logprobs else None


def _logit_bias(request: Generate) -> tuple[tuple[int, float], ...]:
    biases = request.logit_bias or {}
    if not all(token.isascii() and token.isdigit() and len(token) <= MAX_DIGITS for token in biases):
        raise Invalid("logit_bias takes token ids as keys", param="logit_bias", code="invalid_value")
    return tuple(sorted((int(token), bias) for token, bias in biases.items()))


def grammar_of(request: Generate, grammars: Grammars) -> Grammar | None:
    """What the answer must look like; compiles, which may take a while."""
    wanted = request.response_format
    match wanted.type if wanted is not None else "text":
        case "text":
            return None
        case "json_object":
            return grammars.any_object()
        case "json_schema" if wanted is not None and wanted.json_schema is not None:
            return grammars.from_schema(wanted.json_schema.schema)
        case "json_schema":
            raise Invalid("json_schema is missing", param="response_format.json_schema", code="invalid_value")
        case other:
            message = f"response_format is text, json_object or json_schema, not {other!r}"
            raise Invalid(message, param="response_format.type", code="invalid_value")


def check_stream(request: Generate) -> None:
    """Invalid when stream_options come without a stream."""
    if request.stream_options is not None and not request.stream:
        raise Invalid("stream_options needs stream: true", param="stream_options", code="invalid_value")


def seeds(seed: int | None, count: int) -> Sequence[int | None]:
    """One seed for each of `count` rows of a request: distinct answers, reproducible together."""
    return [None if seed is None else seed + index for index in range(count)]

"""Examples of what is under /v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.openapi.examples.example import (
    ADAPTER,
    BASE,
    DIGEST,
    MOMENT,
    OTHER_ADAPTER,
    WEIGHTS,
    Example,
    data,
)

_QUESTION = {"role": "user", "content": "My router does not come back after the update."}
_ANSWER = "Hold the reset button for ten seconds."
_TEXT = "To reset the router,"
_USAGE = {
    "prompt_tokens": 18,
    "completion_tokens": 9,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 0},
}
_SCHEMA = {
    "name": "ticket",
    "schema": {
        "type": "object",
        "properties": {"urgent": {"type": "boolean"}},
        "required": ["urgent"],
        "additionalProperties": False,
    },
}
_CARD = {
    "id": f"{ADAPTER}@prod",
    "created": MOMENT,
    "owned_by": "default",
    "root": DIGEST,
    "parent": BASE,
    "version": 2,
    "max_model_len": 8192,
    "object": "model",
}
_BASE_CARD = {**_CARD, "id": BASE, "root": f"sha256:{WEIGHTS}", "parent": None, "version": None}


def _written(id: str, kind: str, *choices: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "object": kind,
        "created": MOMENT,
        "model": ADAPTER,
        "system_fingerprint": DIGEST,
        "choices": list(choices),
        **fields,
    }


def _chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _written("chatcmpl-1f6c", "chat.completion.chunk", choice)


def _piece(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return _written("cmpl-2a7d", "text_completion", choice)


_CHAT = {"model": ADAPTER, "messages": [_QUESTION], "max_tokens": 64}

INFERENCE: Mapping[str, Example] = {
    "chat_completions": Example(
        bodies={
            "adapter": _CHAT,
            "stream": {**_CHAT, "model": f"{ADAPTER}@prod", "stream": True, "stream_options": {"include_usage": True}},
            "mix": {
                **_CHAT,
                "model": BASE,
                "adapters": [{"model": ADAPTER, "weight": 0.7}, {"model": OTHER_ADAPTER, "weight": 0.3}],
            },
            "schema": {**_CHAT, "response_format": {"type": "json_schema", "json_schema": _SCHEMA}},
        },
        answer=_written(
            "chatcmpl-1f6c",
            "chat.completion",
            {
                "index": 0,
                "message": {"role": "assistant", "content": _ANSWER, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            },
            usage=_USAGE,
        ),
        stream=data(_chunk({"role": "assistant", "content": ""}), _chunk({"content": _ANSWER}), _chunk({}, "stop")),
    ),
    "completions": Example(
        bodies={
            "text": {"model": ADAPTER, "prompt": _TEXT, "max_tokens": 16, "temperature": 0},
            "score": {"model": ADAPTER, "prompt": _TEXT, "max_tokens": 0, "echo": True, "logprobs": 1},
        },
        answer={**_piece(" hold the button for ten seconds.", "stop"), "usage": _USAGE},
        stream=data(_piece(" hold the button"), _piece(" for ten seconds."), _piece("", "stop")),
    ),
    "list_models": Example(answer={"object": "list", "data": [_BASE_CARD, _CARD]}),
    "show_model": Example(path={"model": f"{ADAPTER}@prod"}, answer=_CARD),
    "feedback": Example(
        bodies={"correction": {"request_id": "chatcmpl-1f6c", "model": ADAPTER, "correction": _ANSWER, "rating": 1}},
        answer={"request_id": "chatcmpl-1f6c", "adapter": ADAPTER, "stored": True, "object": "feedback"},
    ),
}

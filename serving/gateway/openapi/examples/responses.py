"""Examples of what came to OpenAI's dialect after chats: responses and their events, and of what vLLM adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.openapi.examples.example import ADAPTER, DIGEST, MOMENT, Example, events

_INPUT = "My router does not come back after the update."
_TEXT = "Hold the reset button for ten seconds."
_PART = {"type": "output_text", "text": _TEXT, "annotations": [], "logprobs": []}
_MESSAGE = {"type": "message", "id": "msg_77c0", "status": "completed", "content": [_PART], "role": "assistant"}
_RESPONSE: Mapping[str, Any] = {
    "id": "resp-44a1",
    "created_at": MOMENT,
    "status": "completed",
    "model": ADAPTER,
    "output": [_MESSAGE],
    "instructions": "Be brief.",
    "max_output_tokens": 64,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_logprobs": 0,
    "text": {"format": {"type": "text"}, "verbosity": None},
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "metadata": {},
    "user": None,
    "safety_identifier": None,
    "completed_at": MOMENT + 1,
    "error": None,
    "incomplete_details": None,
    "usage": {
        "input_tokens": 18,
        "output_tokens": 9,
        "total_tokens": 27,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
    "reasoning": {"effort": None, "summary": None},
    "previous_response_id": None,
    "background": False,
    "store": False,
    "service_tier": "default",
    "truncation": "disabled",
    "object": "response",
}
_BEGUN = {**_RESPONSE, "status": "in_progress", "output": [], "completed_at": None, "usage": None}
_AT = {"output_index": 0, "item_id": "msg_77c0", "content_index": 0}
_ASKED = {"model": ADAPTER, "input": _INPUT, "instructions": "Be brief.", "max_output_tokens": 64}
_TOKENS: Mapping[str, Mapping[str, Any]] = {
    "prompt": {"model": ADAPTER, "prompt": "Hold", "return_token_strs": True},
    "messages": {"model": ADAPTER, "messages": [{"role": "user", "content": _INPUT}]},
}
_COUNTED = {"count": 2, "max_model_len": 8192, "tokens": [31, 32], "token_strs": ["Ho", "ld"]}
_LORA = {"lora_name": ADAPTER, "lora_path": ADAPTER}

RESPONSES: Mapping[str, Example] = {
    "create_response": Example(
        bodies={"text": _ASKED, "stream": {**_ASKED, "stream": True}},
        answer=_RESPONSE,
        stream=events(
            {"type": "response.created", "sequence_number": 0, "response": _BEGUN},
            {"type": "response.output_text.delta", "sequence_number": 4, **_AT, "delta": _TEXT, "logprobs": []},
            {"type": "response.completed", "sequence_number": 8, "response": _RESPONSE},
        ),
    ),
    "embeddings": Example(
        bodies={
            "texts": {"model": ADAPTER, "input": ["Hold the button.", "Call us."]},
            "base64": {"model": ADAPTER, "input": _INPUT, "encoding_format": "base64"},
        },
        answer={
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.6, 0.0, -0.8]},
                {"object": "embedding", "index": 1, "embedding": [0.0, -0.6, 0.8]},
            ],
            "model": ADAPTER,
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        },
    ),
    "tokenize": Example(bodies=_TOKENS, answer=_COUNTED),
    "detokenize": Example(bodies={"ids": {"model": ADAPTER, "tokens": [31, 32]}}, answer={"prompt": "Hold"}),
    "load_lora_adapter": Example(
        bodies={"prefetch": _LORA, "exactly": {"lora_name": f"{ADAPTER}@{DIGEST}", "lora_path": f"{ADAPTER}@{DIGEST}"}},
        answer=f"Success: LoRA adapter '{ADAPTER}' added successfully.",
    ),
    "unload_lora_adapter": Example(
        bodies={"by name": {"lora_name": ADAPTER}},
        answer=f"Success: LoRA adapter '{ADAPTER}' removed successfully.",
    ),
}

"""Every field of OpenAI's requests, as its client knows them: honoured, a hint without effect, or refused by name.

A field that a newer client knows and this table does not, fails here: whoever adds it decides what it means.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.completion import CompletionRequest
from serving.gateway.wire.embedding import EmbeddingRequest
from serving.gateway.wire.response import ResponseRequest

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

HINT = "a hint: it changes neither the answer nor what is kept"


class Refused:
    """Refused with these values, taken with those, which ask for nothing else than what is done."""

    def __init__(self, *values: Any, taken: tuple[Any, ...] = ()) -> None:
        self.values = values
        self.taken = taken


SAMPLING: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "user": "u"}
PENALTIES: dict[str, Any] = {"frequency_penalty": 0.1, "presence_penalty": 0.1, "logit_bias": {"5": -1}, "seed": 7}
HINTS: dict[str, Any] = {
    "prompt_cache_key": HINT,
    "prompt_cache_options": HINT,
    "prompt_cache_retention": HINT,
    "metadata": {"a": "b"},
    "safety_identifier": "s",
}

CHAT: dict[str, Any] = {
    "messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}],
    "model": "alpha",
    **SAMPLING,
    **PENALTIES,
    **HINTS,
    "audio": Refused({"voice": "alloy", "format": "wav"}),
    "function_call": Refused({"name": "f"}, taken=("none", "auto")),
    "functions": Refused([{"name": "f"}], taken=([],)),
    "logprobs": True,
    "max_completion_tokens": 2,
    "max_tokens": 2,
    "modalities": Refused(["text", "audio"], taken=(["text"],)),
    "moderation": Refused({"model": "omni"}),
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": HINT,
    "reasoning_effort": Refused("low", "high", taken=("none",)),
    "response_format": {"type": "text"},
    "service_tier": Refused("flex", "priority", taken=("auto", "default")),
    "stop": ["\n"],
    "store": Refused(True, taken=(False,)),
    "stream": False,
    "stream_options": Refused({"include_usage": True}),
    "tool_choice": "none",
    "tools": Refused([{"type": "function", "function": {"name": "f"}}], taken=([],)),
    "top_logprobs": Refused(3),
    "verbosity": Refused("low", "high", taken=("medium",)),
    "web_search_options": Refused({"search_context_size": "low"}),
}
COMPLETION: dict[str, Any] = {
    "model": "alpha",
    "prompt": "x",
    **SAMPLING,
    **PENALTIES,
    "best_of": Refused(3, taken=(1,)),
    "echo": True,
    "logprobs": 2,
    "max_tokens": 2,
    "n": 2,
    "stop": "\n",
    "stream": False,
    "stream_options": Refused({"include_usage": True}),
    "suffix": Refused("end", taken=("",)),
}
EMBEDDING: dict[str, Any] = {
    "model": "alpha",
    "input": ["x"],
    "dimensions": Refused(8),
    "encoding_format": "base64",
    "user": "u",
}
RESPONSE: dict[str, Any] = {
    "model": "alpha",
    "input": [{"role": "user", "content": "x"}],
    **SAMPLING,
    **HINTS,
    "access_programs": Refused({"cyber": "standard"}),
    "background": Refused(True, taken=(False,)),
    "background_options": Refused({"completion_window": "2h"}),
    "context_management": Refused([{"type": "compaction"}]),
    "conversation": Refused("conv_1"),
    "image": Refused({"context_compression": "auto"}),
    "include": Refused(["file_search_call.results"], taken=(["reasoning.encrypted_content"],)),
    "instructions": "Be brief.",
    "max_output_tokens": 2,
    "max_tool_calls": HINT,
    "moderation": Refused({"model": "omni"}),
    "parallel_tool_calls": False,
    "previous_response_id": Refused("resp_1"),
    "prompt": Refused({"id": "pmpt_1"}),
    "reasoning": Refused({"effort": "low"}, taken=({}, {"effort": "none"})),
    "service_tier": Refused("flex", taken=("auto", "default")),
    "store": Refused(True, taken=(False,)),
    "stream": False,
    "stream_options": {"include_obfuscation": False},
    "text": {"format": {"type": "text"}},
    "tool_choice": "none",
    "tools": Refused([{"type": "web_search"}], taken=([],)),
    "top_logprobs": 1,
    "truncation": Refused("auto", taken=("disabled",)),
}

ENDPOINTS: dict[str, tuple[dict[str, Any], type[msgspec.Struct], Any]] = {
    "/v1/chat/completions": (CHAT, ChatRequest, chat_create_params),
    "/v1/completions": (COMPLETION, CompletionRequest, completion_create_params),
    "/v1/embeddings": (EMBEDDING, EmbeddingRequest, embedding_create_params),
    "/v1/responses": (RESPONSE, ResponseRequest, response_create_params),
}
NEEDED = ("model", "messages", "prompt", "input")


def known_fields(params: Any) -> set[str]:
    """What the official client can send."""
    kinds = [kind for name, kind in vars(params).items() if name.endswith(("ParamsBase", "ParamsNonStreaming"))]
    kinds += [kind for name, kind in vars(params).items() if name == "EmbeddingCreateParams"]
    return {field for kind in kinds for field in get_type_hints(kind, vars(params))}


def ask(running: Running, path: str, table: dict[str, Any], **fields: Any) -> Any:
    needed = {name: table[name] for name in NEEDED if name in table and not isinstance(table[name], Refused)}
    body = needed | fields
    if path == "/v1/responses":
        body.setdefault("max_output_tokens", 2)
    elif path != "/v1/embeddings":
        body.setdefault("max_tokens", 2)
    return running.http.post(path, json=body)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_no_field_is_undecided(path: str) -> None:
    table, _, params = ENDPOINTS[path]
    assert known_fields(params) | {"stream"} == set(table) | {"stream"}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_what_is_not_refused_is_read_or_a_hint(path: str) -> None:
    table, kind, _ = ENDPOINTS[path]
    unread = {name for name in table if name not in kind.__struct_fields__}
    assert unread == {name for name, verdict in table.items() if verdict is HINT}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_what_is_honoured_is_taken_all_at_once(running: Running, path: str) -> None:
    table, *_ = ENDPOINTS[path]
    honoured = {name: value for name, value in table.items() if value is not HINT and not isinstance(value, Refused)}
    hints = {name: {"type": "content", "content": "x"} for name, value in table.items() if value is HINT}
    response = ask(running, path, table, **honoured, **hints)
    assert response.status_code == 200, response.text


CASES = [(path, name) for path, (table, *_) in ENDPOINTS.items() for name in table if isinstance(table[name], Refused)]


@pytest.mark.parametrize(("path", "name"), CASES)
def test_what_is_refused_is_named_and_what_asks_for_nothing_is_taken(running: Running, path: str, name: str) -> None:
    table, *_ = ENDPOINTS[path]
    for value in table[name].values:
        response = ask(running, path, table, **{name: value})
        assert response.status_code == 400, (value, response.text)
        assert str(response.json()["error"]["param"]).startswith(name)
    for value in (None, *table[name].taken):
        response = ask(running, path, table, **{name: value})
        assert response.status_code == 200, (value, response.text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guided_grammar", "root ::= a"),
        ("use_beam_search", True),
        ("length_penalty", 0.5),
        ("skip_special_tokens", False),
        ("prompt_logprobs", 1),
        ("bad_words", ["x"]),
        ("allowed_token_ids", [1]),
        ("truncate_prompt_tokens", 5),
        ("include_stop_str_in_output", True),
    ],
)
def test_what_vllm_has_and_we_have_not_is_refused(running: Running, name: str, value: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        response = ask(running, path, ENDPOINTS[path][0], **{name: value})
        assert response.status_code == 400
        assert response.json()["error"] | {"message": ""} == {
            "message": "",
            "type": "invalid_request_error",
            "param": name,
            "code": "unsupported_parameter",
        }
    usual = {"skip_special_tokens": True, "use_beam_search": False, "length_penalty": 1.0, "guided_json": None}
    assert ask(running, "/v1/completions", COMPLETION, **usual).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_vllms_forms_bind_the_answer(running: Running, path: str) -> None:
    def said(**fields: Any) -> str:
        response = ask(running, path, ENDPOINTS[path][0], max_tokens=40, **fields)
        assert response.status_code == 200, response.text
        choice = response.json()["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])

    assert said(guided_choice=["yes", "no"]) in ("yes", "no")
    assert re.fullmatch(r"[0-9]{3}-[a-c]", said(structured_outputs={"regex": r"[0-9]{3}-[a-c]"}))
    assert said(structured_outputs={"json": {"type": "boolean"}}) in ("true", "false")

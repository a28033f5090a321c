from __future__ import annotations

import pytest

from registry.errors import Invalid
from serving.gateway.bodies import parse
from serving.gateway.wire.chat import ChatRequest

HELLO = '"messages": [{"role": "user", "content": "hi"}]'


def refusal(body: bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse(body, ChatRequest)
    return caught.value


def test_a_request_as_clients_send_it_is_read_and_harmless_fields_are_passed_over() -> None:
    body = f'{{"model": "a", {HELLO}, "store": false, "metadata": null, "service_tier": "auto", "temperature": null}}'
    request = parse(body.encode(), ChatRequest)
    assert request.model == "a"
    assert request.messages[0].content == "hi"
    assert request.temperature is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (f'{{"model": "a", {HELLO}, "temperature": "hot"}}', "temperature"),
        (f'{{"model": "a", {HELLO}, "temperature": 3}}', "temperature"),
        (f'{{"model": "a", {HELLO}, "top_p": 0}}', "top_p"),
        (f'{{"model": "a", {HELLO}, "n": 1000000}}', "n"),
        (f'{{"model": "a", {HELLO}, "max_tokens": 0}}', "max_tokens"),
        (f'{{"model": "a", {HELLO}, "seed": {1 << 70}}}', "seed"),
        (f'{{"model": "a", {HELLO}, "stop": [""]}}', "stop[0]"),
        (f'{{"model": "a", {HELLO}, "top_k": -2}}', "top_k"),
        ('{"model": "a", "messages": [{"role": "wizard", "content": "hi"}]}', "messages[0].role"),
        ('{"model": "a", "messages": [{"content": "hi"}]}', "messages[0].role"),
        ('{"model": "a", "messages": []}', "messages"),
        ('{"messages": [{"role": "user", "content": "hi"}]}', "model"),
        ('{"model": "a"}', "messages"),
    ],
)
def test_a_bad_value_names_its_field(body: str, param: str) -> None:
    error = refusal(body.encode())
    assert error.param == param
    assert error.code == "invalid_value"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": NaN}',
        b'{"model": "a", "unknown": "\xff"}',
        b"\xff\xfe{}",
        b'{"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_not_json_is_invalid_without_a_traceback(body: bytes) -> None:
    assert refusal(body).code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b"[" * 100_000])
def test_a_body_of_another_shape_is_invalid(body: bytes) -> None:
    assert refusal(body).param is None

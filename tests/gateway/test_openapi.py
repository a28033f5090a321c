"""The OpenAPI document: complete, valid, true of the routes, and the page made from it is the one in docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
from litestar import Litestar, get
from litestar.params import FromPath, FromQuery
from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from serving.gateway.access import PUBLIC
from serving.gateway.app import ROUTES
from serving.gateway.openapi.document import describe
from serving.gateway.openapi.examples import EXAMPLES
from serving.gateway.openapi.markdown import markdown
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.openapi.schema_text import in_words
from serving.gateway.openapi.schemas import field_docstrings, schemas
from serving.gateway.wire.chat import ChatRequest

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
APP = Litestar(ROUTES, openapi_config=None)
DOCUMENT = describe(APP)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


ALL = [pytest.param(*each, id=each[2]["operationId"]) for each in operations()]


def conforms(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_route_of_the_application_is_in_it() -> None:
    served = {
        (route.path_format, method.lower())
        for route in APP.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS"}
    }
    assert served == {(path, method) for path, method, _ in operations()}
    assert len({operation["operationId"] for *_, operation in operations()}) == len(served)


@pytest.mark.parametrize(("path", "method", "operation"), ALL)
def test_every_route_says_what_it_does_who_may_and_what_comes_of_it(path: str, method: str, operation: Any) -> None:
    assert re.fullmatch(r"[A-Z`/].*[.]", operation["summary"], re.DOTALL), "a docstring whose first line is a sentence"
    assert operation["tags"]
    assert operation["security"] or operation["description"] == "Open to everybody."
    answer = next(iter(operation["responses"]["200"]["content"].values()))
    assert answer["example"] not in (None, ""), f"no example of an answer in EXAMPLES[{operation['operationId']!r}]"
    conforms(answer["example"], answer["schema"])
    if method in {"post", "put", "patch"} and "requestBody" in operation:
        assert {"400", "413", "415"} <= operation["responses"].keys()
        (body,) = operation["requestBody"]["content"].values()
        assert body["examples"], "no example of a body"
        for example in body["examples"].values():
            conforms(example["value"], body["schema"])
    for parameter in operation["parameters"]:
        assert "$ref" in parameter or parameter.get("example") or parameter["in"] != "path", (
            f"no example of {parameter}"
        )


def test_every_handler_of_a_route_says_what_it_takes_and_gives() -> None:
    for route in APP.routes:
        assert isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items():
            assert method == "OPTIONS" or isinstance(handler.opt.get(OPERATION), Operation), route.path


def test_no_example_is_of_a_route_that_is_gone() -> None:
    assert set(EXAMPLES) <= {handler.handler_name for handler in ROUTES}


def test_streams_of_the_examples_are_events_of_their_schema() -> None:
    streams = [
        operation["responses"]["200"]["content"]["text/event-stream"]
        for *_, operation in operations()
        if "text/event-stream" in operation["responses"]["200"]["content"]
    ]
    assert streams
    for stream in streams:
        events = [line.removeprefix("data: ") for line in stream["x-stream"].splitlines() if line.startswith("data: ")]
        assert events
        for event in events:
            if event != "[DONE]":
                conforms(
                    msgspec.json.decode(event), stream["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
                )


def test_errors_of_the_document_are_those_that_the_gateway_writes() -> None:
    for name, response in DOCUMENT["components"]["responses"].items():
        (content,) = response["content"].values()
        conforms(content["example"], content["schema"])
        if name.startswith("Problem"):
            assert content["example"]["status"] == int(name.removeprefix("Problem"))


def test_the_page_in_docs_is_made_from_the_routes() -> None:
    again = "python -m serving.gateway.openapi > docs/api.md"
    assert PAGE.read_text() == markdown(DOCUMENT), f"the routes have changed; run `{again}`"


def test_a_gateway_serves_its_own_document_to_everybody(running: Running) -> None:
    assert running.http.get("/openapi.json").json() == DOCUMENT


def test_a_new_route_appears_by_itself() -> None:
    class Greeting(msgspec.Struct):
        """What is said."""

        text: str
        """In any language."""

    @get("/api/greetings/{name:str}", opt={PUBLIC: True, OPERATION: Operation(answer=Greeting)}, sync_to_thread=False)
    def greet(name: FromPath[str], times: FromQuery[int] = 1) -> None:
        """Say hello.

        Twice, if asked.
        """

    operation = describe(Litestar([greet], openapi_config=None))["paths"]["/api/greetings/{name}"]["get"]
    assert (operation["summary"], operation["operationId"], operation["tags"]) == ("Say hello.", "greet", ["Registry"])
    assert operation["description"] == "Twice, if asked.\n\nOpen to everybody."
    name, times = operation["parameters"][:2]
    assert (name["in"], name["required"]) == ("path", True)
    assert (times["in"], times["schema"]) == ("query", {"type": "integer", "default": 1})
    assert list(operation["responses"]) == ["200", "400", "404"]


def test_schemas_promise_what_is_enforced_and_say_what_the_source_says() -> None:
    references, components = schemas([ChatRequest, list[ChatRequest]])
    assert references[ChatRequest] == {"$ref": "#/components/schemas/ChatRequest"}
    temperature = components["ChatRequest"]["properties"]["temperature"]
    assert {"type": "number", "minimum": 0, "maximum": 2} in temperature["anyOf"]
    told = field_docstrings(ChatRequest)["adapters"]
    assert components["ChatRequest"]["properties"]["adapters"]["description"] == told


def test_fields_that_are_refused_by_name_are_told_as_such() -> None:
    fields = DOCUMENT["components"]["schemas"]["ChatRequest"]["properties"]
    told = 'Not supported: refused, unless it is null or `"none"` or `"auto"`.'
    assert fields["function_call"]["description"] == told
    assert fields["logits_processors"]["x-refused"]
    assert "x-refused" not in fields["temperature"]
    assert "`logits_processors`" in markdown(DOCUMENT).split("### ChatRequest")[1].split("Refused by name")[1]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "minLength": 1, "maxLength": 9}, "string, 1 to 9 characters"),
        (
            {"anyOf": [{"type": "number", "minimum": 0, "maximum": 2}, {"type": "null"}]},
            "number, 0 to 2, or null",
        ),
        (
            {"type": "array", "items": {"$ref": "#/components/schemas/X"}, "maxItems": 3},
            "list of [X](#x), at most 3",
        ),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({"enum": ["a", 1]}, '`"a"` or `1`'),
        ({}, "anything"),
    ],
)
def test_schemas_in_words(schema: dict[str, Any], words: str) -> None:
    assert in_words(schema) == words

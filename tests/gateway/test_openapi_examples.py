"""Every body that the document shows, sent to a gateway as it stands, is answered as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

from serving.base import Base
from serving.gateway.openapi.examples import EXAMPLES
from serving.gateway.openapi.examples.example import ADAPTER, BASE, DIGEST, OTHER_ADAPTER
from serving.gateway.openapi.examples.fine_tuning import FILE_ID, JOB_ID
from tests.gateway.conftest import run

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

UNREACHABLE = {
    "release": 404,
    "pause_tuning_job": 400,
    "resume_tuning_job": 400,
}
"""Nothing is in quarantine here, and jobs are never paused."""
ROWS = b'{"prompt": "Where is my order?", "completion": "On its way."}\n'


@pytest.fixture(scope="module")
def shown(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that has what the examples speak of."""
    for each in run(tiny_base, tmp_path_factory.mktemp("shown")):
        each.publish(ADAPTER, 1)
        each.publish(OTHER_ADAPTER, 3)
        each.publish(ADAPTER, 2)
        each.http.post("/v1/fine_tuning/jobs", json={"model": each.base_name, "training_file": upload(each)})
        yield each


def requests(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any], Any]]:
    """Each operation with each body that it shows; those without a body once."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {"content": {"": {"examples": {"": {"value": None}}}}})
            (content,) = body["content"].values()
            for example in content["examples"].values():
                yield path, method, operation["operationId"], operation, example["value"]


def test_every_example_is_answered_as_documented(shown: Running) -> None:
    document = shown.http.get("/openapi.json").json()
    components, sent = document["components"], 0
    for path, method, name, operation, body in requests(document):
        prepare(shown, name)
        url = path.format(
            **{each["name"]: each["example"] for each in operation["parameters"] if each.get("in") == "path"}
        )
        response = shown.http.request(method, real(shown, url), **sent_as(operation, body and real(shown, body)))
        assert response.status_code == UNREACHABLE.get(name, 200), f"{name}: {body}: {response.text}"
        sent += 1
        media_type = response.headers["content-type"].partition(";")[0]
        contents = operation["responses"].get(str(response.status_code))["content"] if response.is_success else {}
        known = {each.partition(";")[0]: content for each, content in contents.items()}
        assert not contents or media_type in known, f"{name}: {media_type}"
        if media_type == "application/json" and contents:
            schema = {**known[media_type]["schema"], "components": components}
            jsonschema.Draft202012Validator(schema).validate(response.json())
        if media_type == "text/event-stream":
            event = known[media_type]["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
            check_events(response.text, {**event, "components": components})
    assert sent > len(EXAMPLES)


def sent_as(operation: dict[str, Any], body: Any) -> dict[str, Any]:
    """The body as the operation takes it."""
    if "multipart/form-data" in operation.get("requestBody", {"content": {}})["content"]:
        return {"data": {"purpose": body["purpose"]}, "files": {"file": ("rows.jsonl", body["file"])}}
    return {"json": body}


def prepare(shown: Running, name: str) -> None:
    """Where the examples believe that the alias stands, and what they believe was uploaded and filed."""
    if name == "delete_file":
        upload(shown)
    for version in {"move_alias": ["v1"], "roll_back": ["v1", "v2"]}.get(name, []):
        shown.registry.alias(ADAPTER, "prod", version)


def upload(shown: Running) -> str:
    form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("rows.jsonl", ROWS)}}
    return str(shown.http.post("/v1/files", **form).json()["id"])


def check_events(stream: str, schema: dict[str, Any]) -> None:
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert events
    for event in events:
        if event != "[DONE]":
            jsonschema.Draft202012Validator(schema).validate(msgspec.json.decode(event))


def real(shown: Running, value: Any) -> Any:
    """The example with the names of this gateway's base, version, newest file and newest job."""
    names = {
        BASE: shown.base_name,
        DIGEST: shown.registry.resolve(f"{ADAPTER}@v2").digest,
        FILE_ID: shown.gateway.home.files.list(newest_first=True)[0].id,
        JOB_ID: shown.gateway.home.jobs.list()[-1].key,
    }
    text = msgspec.json.encode(value).decode()
    for name, ours in names.items():
        text = text.replace(name, ours)
    return msgspec.json.decode(text)

"""The OpenAPI 3.1 document of an application: every route that it has, as the routes themselves say. Holds no route."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from registry.names import NAME
from serving.gateway.access import OPERATOR, PUBLIC, scopes_of
from serving.gateway.openapi import failures, headers
from serving.gateway.openapi.examples import EXAMPLES, Example
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.openapi.schemas import Schema, schemas
from serving.gateway.wire.error import ErrorEnvelope, Problem

SECURITY = "key"
PATTERNS = {"name": {"pattern": f"^{NAME}$"}, "alias": {"pattern": f"^{NAME}$"}}
"""What path parameters look like, by their name, in every route."""
TAGS = {
    "Inference": "OpenAI's dialect, with vLLM's extension fields. Errors are OpenAI's document.",
    "Fine-tuning": "OpenAI's files and fine-tuning jobs. Errors are OpenAI's document.",
    "Registry": "What is registered, drifting, being retrained. Errors are RFC 9457 problems.",
    "Operations": "What machines ask of a gateway.",
}
ABOUT = """\
One frozen base, many adapters, one batch: `model` chooses an adapter for each request.

`model` is the base's name, or `adapter`, `adapter@prod`, `adapter@v7`, `adapter@sha256:...`, or any of these of
another tenant that shares it, as `tenant/adapter...`. It is resolved once, and headers say to what.
Fields that a schema does not name are ignored, as in OpenAI's dialect, unless it says `additionalProperties: false`.
"""


@dataclass(frozen=True)
class _Route:
    """One operation, and where it stands."""

    path: str
    method: str
    handler: HTTPRouteHandler
    path_parameters: tuple[str, ...]

    @property
    def operation(self) -> Operation:
        return self.handler.opt.get(OPERATION, Operation())  # type: ignore[no-any-return]

    @property
    def query(self) -> dict[str, FieldDefinition]:
        """Parameters that the handler takes from the query string."""
        fields = self.handler.parsed_fn_signature.parameters
        return {name: field for name, field in fields.items() if name not in {*self.path_parameters, "request"}}

    @property
    def tag(self) -> str:
        first, *more = self.path.removeprefix("/").split("/")
        if first == "v1" and more[0] in ("files", "fine_tuning"):
            return "Fine-tuning"
        return {"v1": "Inference", "api": "Registry"}.get(first, "Operations")

    @property
    def types(self) -> list[Any]:
        told = self.operation
        return [each for each in (told.asked, told.answer, told.events, *told.errors.values()) if each is not None]

    @property
    def statuses(self) -> list[int]:
        """Every error status that it may answer, in order."""
        told, found = self.operation, {*self.operation.fails, *self.operation.errors}
        if not self.handler.opt.get(PUBLIC):
            found |= {401, 403, 500, 503}
        if told.asked is not None:
            found |= {400, 413, 415}
        if "model" in getattr(told.body, "__struct_fields__", ()):
            found |= {404}
        if self.query:
            found |= {400}
        if self.path_parameters:
            found |= {400, 404}
        if told.generates:
            found |= {400, 404, 429, 499, 503, 504}
        return sorted(found)


def describe(app: Litestar) -> dict[str, Any]:
    """The document, in plain JSON values."""
    routes = list(_routes(app))
    queried = [field.annotation for route in routes for field in route.query.values()]
    types = [kind for route in routes for kind in route.types]
    references, components = schemas([*types, *queried, ErrorEnvelope, Problem])
    paths: dict[str, dict[str, Any]] = {}
    for route, name in _named(routes):
        paths.setdefault(route.path, {})[route.method] = _operation(route, name, references)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Lorimer", "version": version("lorimer"), "description": ABOUT},
        "servers": [{"url": "/", "description": "The gateway that this document comes from."}],
        "security": [{SECURITY: []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "parameters": headers.parameters(),
            "headers": headers.responses(),
            "responses": failures.responses(),
            "securitySchemes": {
                SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, or a JSON Web Token of the configured issuer. A gateway that listens "
                    "on loopback only and has no keys asks for none.",
                }
            },
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


def _routes(app: Litestar) -> Iterator[_Route]:
    """Operations in the order of their tags, and within them in that of the application's routes."""
    found = [
        _Route(route.path_format, method.lower(), handler, tuple(route.path_parameters))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    ]
    yield from sorted(found, key=lambda route: list(TAGS).index(route.tag))


def _named(routes: list[_Route]) -> Iterator[tuple[_Route, str]]:
    """Each with its operation id: the handler's name, and the path's too where it has several."""
    taken: set[str] = set()
    for route in routes:
        name = route.handler.handler_name
        if name in taken:
            name = f"{name}{re.sub('[^a-z0-9]+', '_', route.path)}"
        taken.add(name)
        yield route, name


def _operation(route: _Route, name: str, references: dict[Any, Schema]) -> dict[str, Any]:
    told, example = route.operation, EXAMPLES.get(route.handler.handler_name, Example())
    summary, _, description = inspect.cleandoc(route.handler.fn.__doc__ or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [route.tag],
        "summary": " ".join(summary.split()),
        "description": "\n\n".join(each for each in (description, _access(route)) if each),
        "security": [] if route.handler.opt.get(PUBLIC) else [{SECURITY: [scope]} for scope in _scopes(route)],
        "parameters": [
            *(_path_parameter(each, example.path.get(each, "")) for each in route.path_parameters),
            *(_query_parameter(each, field, references) for each, field in route.query.items()),
            *headers.asked(told.generates),
        ],
        "responses": {
            "200": _success(route, example, references),
            **{str(status): _failure(status, route, references) for status in route.statuses},
        },
    }
    if told.asked is not None:
        bodies = {name: {"value": body} for name, body in example.bodies.items()}
        media = {"schema": references[told.asked], "examples": bodies}
        media_type = "application/json" if told.form is None else "multipart/form-data"
        operation["requestBody"] = {"required": True, "content": {media_type: media}}
    return operation


def _scopes(route: _Route) -> list[str]:
    return list(scopes_of(route.handler)) or [""]


def _access(route: _Route) -> str:
    """Who may ask, in words."""
    if route.handler.opt.get(PUBLIC):
        return "Open to everybody."
    scopes = scopes_of(route.handler)
    told = f"Needs the scope {' or '.join(f'`{each}`' for each in scopes)}" if scopes else "Needs any valid credential"
    return f"{told}, of the gateway's own tenant." if route.handler.opt.get(OPERATOR) else f"{told}."


def _path_parameter(name: str, example: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1} | PATTERNS.get(name, {})
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _query_parameter(name: str, field: FieldDefinition, references: dict[Any, Schema]) -> dict[str, Any]:
    schema, told = references[field.annotation], field.kwarg_definition
    if not field.is_required:
        schema = {**schema, "default": field.default}
    description = (isinstance(told, ParameterKwarg) and told.description) or ""
    return {"name": name, "in": "query", "required": field.is_required, "description": description, "schema": schema}


def _success(route: _Route, example: Example, references: dict[Any, Schema]) -> dict[str, Any]:
    told = route.operation
    schema = {"type": "string"} if told.answer is None else references[told.answer]
    content: dict[str, Any] = {told.media_type: {"schema": schema, "example": example.answer}}
    if told.events is not None:
        content["text/event-stream"] = {"schema": _event(references[told.events]), "x-stream": example.stream}
    return {"description": _meaning(told.answer), "headers": headers.told(told.generates), "content": content}


def _failure(status: int, route: _Route, references: dict[Any, Schema]) -> dict[str, Any]:
    own = route.operation.errors.get(status)
    return failures.reference(status, route.path) if own is None else failures.either(status, references[own])


def _event(data: Schema) -> Schema:
    """One server-sent event, as OpenAPI 3.2 describes it: its data is a string that holds JSON, or says the end."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    either = {"anyOf": [text, {"const": "[DONE]"}]}
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": either}, "required": ["data"]}


def _meaning(answer: Any) -> str:
    """What a type says of itself."""
    return "Text." if answer is None else inspect.cleandoc(getattr(answer, "__origin__", answer).__doc__ or "")

"""The headers that requests may carry and responses do. Knows no route."""

from __future__ import annotations

from typing import Any

from serving.gateway.deadline import HEADER as TIMEOUT
from serving.gateway.deadline import LONGEST_S

ASKED = {
    "x-request-id": "An id of the caller's for this request, echoed and logged; without it the gateway makes one.",
    "traceparent": "W3C trace context, so that the gateway's spans join the caller's trace.",
}
ASKED_TO_GENERATE = {
    "x-session-id": "Requests of one session meet the same version where an alias is split among several.",
    TIMEOUT: "Seconds after which nobody waits for the answer any more: then it is 504.",
}
TOLD_OF_ERRORS = {
    "retry-after": "Seconds after which a retry can succeed; absent where none can.",
    "x-should-retry": "`false`: a retry cannot help. Official clients heed it.",
    "www-authenticate": "The scheme to authenticate with.",
}
TOLD_OF_ANSWERS = {
    "x-request-id": "The request's id, in every log line about it.",
    "x-adapter-digest": "Digest of the version that answered; of the mix, where several did.",
    "x-adapter-version": "Number of the version that answered.",
    "x-adapter-alias": "The alias by which the version was found.",
    "x-adapter-share": "The part of the alias's traffic that this version gets, where others get the rest.",
    "x-adapter-mix": "The versions of a mix, each with its weight.",
    "x-adapter-instead-of": "Digest of the version asked for, whose stored bytes are damaged; an earlier one answered.",
    "x-base-digest": "Digest of the base's weights, where no adapter answered.",
    "server-timing": "Milliseconds in each stage before the first token.",
    "x-ratelimit-limit-requests": "Requests a minute that the key may make, where it is limited.",
    "x-ratelimit-remaining-requests": "Requests left now.",
    "x-ratelimit-reset-requests": "Time until all of them are back.",
    "x-ratelimit-limit-tokens": "Tokens a minute that the key may use, where it is limited.",
    "x-ratelimit-remaining-tokens": "Tokens left now.",
    "x-ratelimit-reset-tokens": "Time until all of them are back.",
}


def parameters() -> dict[str, dict[str, Any]]:
    """What requests may carry, by the name under which operations refer to it."""
    return {name: _parameter(name, text) for name, text in {**ASKED, **ASKED_TO_GENERATE}.items()}


def responses() -> dict[str, dict[str, Any]]:
    """What responses may carry, by the name under which they refer to it."""
    known = {**TOLD_OF_ANSWERS, **TOLD_OF_ERRORS}
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in known.items()}


def asked(generates: bool) -> list[dict[str, str]]:
    names = [*ASKED, *(ASKED_TO_GENERATE if generates else ())]
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def told(generates: bool) -> dict[str, dict[str, str]]:
    """Of a successful response."""
    return references(*TOLD_OF_ANSWERS) if generates else references("x-request-id")


def references(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _parameter(name: str, text: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name == TIMEOUT:
        schema = {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_S}
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}

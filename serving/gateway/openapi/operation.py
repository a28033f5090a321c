"""What a route says of itself beyond its handler's signature and docstring. Knows not how it is written down.

A route carries it as an option: `opt={SCOPE: "infer", OPERATION: Operation(body=ChatRequest, answer=ChatCompletion)}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPERATION = "operation"
"""The name of the option."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Types are those that decode and encode: the document cannot say other than the route does."""

    body: Any = None
    """What the JSON body is decoded into; None: the route takes no JSON."""
    form: Any = None
    """What a `multipart/form-data` body holds, for a route that takes one instead."""
    answer: Any = None
    """What the answer is encoded from; None: the answer is not JSON, see `media_type`."""
    events: Any = None
    """With `stream`, what each server-sent event is encoded from."""
    media_type: str = "application/json"
    """Of the answer."""
    generates: bool = False
    """Rows run in the engine: an adapter is chosen, the queue may be full, a deadline may pass, a client may leave."""
    fails: tuple[int, ...] = ()
    """Statuses that this route answers beyond those that follow from the rest."""
    errors: Mapping[int, Any] = field(default_factory=dict)
    """By status, what an error may be encoded from instead of the document that errors are otherwise."""

    @property
    def asked(self) -> Any:
        """What the body is made of, however it is written."""
        return self.body if self.form is None else self.form

"""/v1/feedback on the wire: what became of an answer."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serving.gateway.wire.values import Name


class FeedbackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`request_id` is a response's `id` or the `x-request-id` it came with. `user` is who gives the feedback."""

    request_id: Name
    correction: Annotated[str, Meta(max_length=1 << 20)] | None = None
    rating: Literal[-1, 1] | None = None
    model: Name | None = None
    user: Name | None = None


class FeedbackReceipt(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    adapter: str
    stored: bool = True
    object: Literal["feedback"] = "feedback"

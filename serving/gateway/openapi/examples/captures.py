"""Examples of what was captured, and of taking it out."""

from __future__ import annotations

from collections.abc import Mapping

from serving.gateway.openapi.examples.example import ADAPTER, DIGEST, MOMENT, Example

_PERSON = "4b1d0f9c2a7e4d51a3c8e6f70b9d2c15"
_CAPTURED = {
    "request_id": "chatcmpl-5c1d7f0a9b3e4c2d8f6a1b0c9d8e7f6a",
    "time": float(MOMENT),
    "adapter": ADAPTER,
    "digest": DIGEST,
    "messages": [{"role": "user", "content": "Where is my order? Write to [email]."}],
    "response": "It left our warehouse this morning.",
    "session": "9e107d9d372bb6826bd81d3542a419d6",
    "correction": "It arrives on Friday.",
    "rating": -1,
    "prompt": None,
    "others": [],
    "tools": [],
    "users": [_PERSON],
}
_LINE = (
    '{"messages":[{"role":"user","content":"Where is my order?"},'
    '{"role":"assistant","content":"It arrives on Friday."}],'
    '"meta":{"source":"feedback","request_id":"chatcmpl-5c1d7f0a9b3e4c2d8f6a1b0c9d8e7f6a"}}\n'
)
_COUNTS = {"requests": 12, "feedback": 3, "objects": 9}
_REMAIN = {"dataset": "lorimer:t/default/datasets/5feceb66.jsonl", "versions": [f"{ADAPTER}@v2"], "rows": 2}

CAPTURES: Mapping[str, Example] = {
    "list_captures": Example(path={"name": ADAPTER}, answer={"captures": [_CAPTURED]}),
    "export_captures": Example(path={"name": ADAPTER}, answer=_LINE),
    "forget_user": Example(
        bodies={"forget": {"user": "ada", "reason": "asked for it on 23 November"}},
        answer={"erasure": "01K9ZX4Q6R8T0V2W4Y6Z8A0C2E", "person": _PERSON, **_COUNTS, "remains": [_REMAIN]},
    ),
    "expire_captures": Example(
        bodies={"as policies say": {}, "one adapter": {"adapter": ADAPTER, "days": 7}}, answer=_COUNTS
    ),
    "list_erasures": Example(
        answer={
            "erasures": [
                {
                    "erasure": "01K9ZX4Q6R8T0V2W4Y6Z8A0C2E",
                    "person": _PERSON,
                    "time": float(MOMENT),
                    "done": True,
                    "counts": _COUNTS,
                }
            ]
        }
    ),
}

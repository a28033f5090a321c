"""Examples of what is under /api."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.openapi.examples.example import ADAPTER, BASE, DIGEST, MOMENT, WEIGHTS, Example

_HASH = DIGEST.removeprefix("sha256:")
_EARLIER = "sha256:7c4a8d09ca3762af61e59520943dc26494f8941b5e1c9f0c2a3b4d5e6f708192"
_TX = "01K9ZX4Q6R8T0V2W4Y6Z8A0C2E"
_IDENTITY = {
    "id": BASE,
    "weights_sha256": WEIGHTS,
    "tokenizer_sha256": _HASH,
    "template_sha256": _HASH,
    "shape_sha256": _HASH,
}
_MANIFEST = {
    "files": [
        {"path": "adapter_config.json", "sha256": _HASH, "size": 512},
        {"path": "adapter_model.safetensors", "sha256": WEIGHTS, "size": 9748656},
    ],
    "format": "peft-lora/safetensors",
    "method": "lora",
    "rank": 16,
    "alpha": 32.0,
    "targets": ["q_proj", "v_proj"],
    "base": _IDENTITY,
    "parent": {"adapter": ADAPTER, "digest": _EARLIER},
    "dataset": {"uri": "t/default/datasets/5feceb66.jsonl", "sha256": _HASH, "rows": 1200, "counts": {"train": 1080}},
    "trainer": {"steps": 300},
    "metrics": {"loss": 1.42},
    "evidence": None,
    "trigger": None,
    "tags": {"team": "helpdesk"},
}
_VERSION = {
    "tenant": "default",
    "adapter": ADAPTER,
    "number": 2,
    "digest": DIGEST,
    "manifest": _MANIFEST,
    "locations": {_HASH: _TX, WEIGHTS: _TX},
    "published_at": MOMENT - 3600.0,
    "signers": [],
}
_MOVE = {
    "n": 7,
    "alias": "prod",
    "digest": DIGEST,
    "previous": _EARLIER,
    "time": float(MOMENT),
    "actor": "key:k1",
    "reason": "won the canary",
    "rollback": False,
    "to": {DIGEST: 1.0},
}
_STATE = {
    "tenant": "default",
    "adapter": ADAPTER,
    "versions": [_VERSION],
    "aliases": {"prod": DIGEST},
    "policy": {"capture": True},
    "alias_history": [_MOVE],
    "splits": {},
    "deleted": [],
    "aborted": [],
    "quarantined": {},
    "reviews": {},
    "grants": {},
    "rules": None,
    "violations": [],
    "next_version": 3,
    "created_at": MOMENT - 86400.0,
    "updated_at": float(MOMENT),
}
_EVENT = {
    "v": 1,
    "n": 7,
    "prev": _HASH,
    "tx": _TX,
    "actor": "key:k1",
    "time": float(MOMENT),
    "ops": [{"op": "alias", "name": "prod", "to": {DIGEST: 1.0}, "expect": _EARLIER, "reason": "won the canary"}],
}
_SUMMARY = {
    "adapter": ADAPTER,
    "events": 7,
    "num_versions": 2,
    "latest": 2,
    "aliases": {"prod": 2},
    "base": BASE,
    "method": "lora",
    "tags": {"team": "helpdesk"},
    "metrics": {"loss": 1.42},
    "updated_at": float(MOMENT),
}
_JOB = {
    "key": "01K9ZX4Q6R8T0V2W4Y6Z8A0C2E",
    "spec": {"adapter": ADAPTER, "trigger": "drift"},
    "state": "running",
    "worker": "worker-1",
    "attempt": 1,
    "lease_s": 60.0,
    "lease_until": MOMENT + 60.0,
    "progress": {"step": 120, "steps": 300},
    "result": {},
    "error": "",
    "created_at": MOMENT - 300.0,
    "updated_at": float(MOMENT),
    "created": True,
}
_CASE = {
    "digest": DIGEST,
    "name": f"{ADAPTER}@v2",
    "reason": "logits are not finite",
    "since": float(MOMENT),
    "times": 1,
    "refused": 3,
}
_DRIFT: dict[str, Any] = {
    "adapter": ADAPTER,
    "state": "OK",
    "observations": 5120,
    "alarms": 0,
    "expected_false_alarms": 0.02,
    "episodes": 1,
    "retrained": {"promoted": 1},
    "waiting_for": [],
    "episode": None,
    "unwatched": None,
    "digest": DIGEST,
    "version": 2,
    "sessions": 340,
    "log_evidence": -1.7,
    "log_threshold": 9.2,
    "mmd": 0.004,
    "charts": [],
    "channels": {},
}
_RECORD = {
    "n": 41,
    "time": float(MOMENT),
    "actor": "key:k1",
    "action": "alias.move",
    "what": {"adapter": ADAPTER, "alias": "prod", "to": "v2"},
    "by": "gateway-1",
    "request_id": "req-5c1d",
    "error": "",
}
_NAMED = {"name": ADAPTER}
_ALIAS = {**_NAMED, "alias": "prod"}

REGISTRY: Mapping[str, Example] = {
    "list_adapters": Example(answer={"adapters": [_SUMMARY]}),
    "show_adapter": Example(path=_NAMED, answer=_STATE),
    "show_log": Example(path=_NAMED, answer={"events": [_EVENT]}),
    "move_alias": Example(
        path=_ALIAS,
        bodies={
            "move": {"to": "v2", "reason": "won the canary"},
            "canary": {"to": {"v2": 5, "v1": 95}, "expect": "v1"},
            "compare and swap": {"to": "v2", "expect": "v1", "reason": "won the canary"},
        },
        answer=_EVENT,
    ),
    "roll_back": Example(
        path=_ALIAS,
        bodies={"back": {"reason": "answers too long"}, "once": {"expect": "v2", "reason": "answers too long"}},
        answer={"adapter": ADAPTER, "alias": "prod", "version": 1, "digest": _EARLIER},
    ),
    "drift": Example(answer={"adapters": [_DRIFT]}),
    "list_jobs": Example(answer={"jobs": [_JOB]}),
    "quarantined": Example(answer={"quarantined": [_CASE]}),
    "release": Example(path={"digest": DIGEST}, answer={**_CASE, "refused": 0}),
    "show_audit": Example(answer={"records": [_RECORD]}),
}

"""What an adapter's owner decided about capture, retraining and retention. Holds the decision; acts on nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from registry.captures.redaction import KINDS, Kind
from registry.errors import Invalid
from registry.retention import Retention


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    capture: bool = False
    """Keep request texts and feedback for retraining."""
    capture_days: Annotated[int, Meta(ge=0, le=36_500)] | None = None
    """Captures older than this are taken out; 0: kept until somebody does. None leaves what was decided before."""
    redact: tuple[Kind, ...] | None = None
    """What is taken out of texts before they are kept: email, phone, card, secret. None leaves what was decided."""
    retrain: Literal["auto", "approve", "off"] = "auto"
    min_examples: int = 32
    """Usable corrections a retraining needs."""
    cooldown_s: float = 3600.0
    harm_required: bool = False
    """Retrain only when answers got worse, not on a mere change of input."""
    retention: Retention | None = None
    """Which versions `lorimer registry gc` keeps; None leaves what was decided before."""


def read_policy(values: Mapping[str, Any]) -> Policy:
    """Validate; an unknown key or a wrong type is Invalid and named."""
    try:
        policy = msgspec.convert({**values, **_listed(values.get("redact"))}, Policy)
    except msgspec.ValidationError as error:
        raise Invalid(f"bad policy: {error}", param="policy") from error
    if policy.min_examples < 1 or not 0 <= policy.cooldown_s < float("inf"):
        raise Invalid("bad policy: min_examples must be >= 1 and cooldown_s >= 0", param="policy")
    return policy


def _listed(redact: object) -> dict[str, Any]:
    """`all`, `none`, or kinds separated by commas, as people write them."""
    if not isinstance(redact, str):
        return {}
    if redact in ("all", "none"):
        return {"redact": KINDS if redact == "all" else ()}
    return {"redact": [each.strip() for each in redact.split(",") if each.strip()]}

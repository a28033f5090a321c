"""What a list says of an adapter, and which adapters a filter lets through."""

from __future__ import annotations

import pytest

from registry.errors import Invalid
from registry.summary import EVERYTHING, AdapterSummary, Bound, Filter, summarise
from registry.versions import AdapterState

ROW = AdapterSummary(
    adapter="support-de",
    events=4,
    num_versions=2,
    latest=3,
    aliases={"prod": 3},
    base="org/base-135m",
    method="dora",
    tags={"language": "de", "team": "search"},
    metrics={"accuracy": 0.9, "loss": 1.5},
    updated_at=1.0,
)


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        (EVERYTHING, True),
        (Filter(name="support-*"), True),
        (Filter(name="support"), False),
        (Filter(name="*-[df]e"), True),
        (Filter(base="org/*"), True),
        (Filter(base="other/*"), False),
        (Filter(method="dora"), True),
        (Filter(method="lora"), False),
        (Filter(alias="prod"), True),
        (Filter(alias="canary"), False),
        (Filter(tags={"language": "de", "team": "search"}), True),
        (Filter(tags={"language": "de", "team": "ads"}), False),
        (Filter(tags={"owner": ""}), False),
        (Filter(metrics=(Bound.parse("accuracy>=0.9"), Bound.parse("loss<2"))), True),
        (Filter(metrics=(Bound.parse("accuracy > 0.9"),)), False),
        (Filter(metrics=(Bound.parse("accuracy=0.9"),)), True),
        (Filter(metrics=(Bound.parse("loss<=1.5"),)), True),
        (Filter(metrics=(Bound.parse("f1>=0"),)), False),
        (Filter(name="support-*", alias="prod", method="lora"), False),
    ],
)
def test_filters(wanted: Filter, accepted: bool) -> None:
    assert wanted.accepts(ROW) is accepted


@pytest.mark.parametrize(
    "text", ["", "accuracy", "accuracy>", ">=0.9", "accuracy>=high", "accuracy>=<1", "a=b=1", "accuracy>nan"]
)
def test_what_is_no_bound_is_named(text: str) -> None:
    with pytest.raises(Invalid, match="not a bound on a metric"):
        Bound.parse(text)


def test_metrics_with_odd_names() -> None:
    assert Bound.parse("eval/f1 (macro) >= 1e-3") == Bound("eval/f1 (macro)", ">=", 0.001)


def test_what_never_came_to_be_has_no_row() -> None:
    assert summarise(AdapterState(tenant="default", adapter="x"), 1) is None

from __future__ import annotations

import msgspec
import numpy as np

from monitoring.attribution import attribute
from monitoring.reference import Reference


def reference(mu: list[float], basis: str = "b") -> Reference:
    return Reference(
        mu=np.array(mu),
        num_sessions=100,
        eps=0.01,
        delta=0.01,
        thresholds=(1.0, 1.0, 1.0),
        scalars={},
        basis_sha256=basis,
    )


REFERENCES = {
    "a": reference([0.0, 0.0]),
    "b": reference([1.0, 0.0]),
    "c": reference([0.9, 0.0], basis="other"),
}


def test_traffic_of_another_adapter_is_recognised() -> None:
    found = attribute("a", np.array([0.9, 0.1]), REFERENCES, {"phi": 0.9, "log_length+": 0.1})
    assert found.misrouted_from == "b"
    assert [*found.distances] == ["b", "a"], "a reference on another basis cannot be compared"
    assert found.summary == "a: what the inputs are about (90% of the evidence); it looks like b's traffic"


def test_new_ground_is_nobodys() -> None:
    found = attribute("a", np.array([0.5, 0.9]), REFERENCES, {"log_length+": 0.8, "phi": 0.2})
    assert found.misrouted_from is None
    assert found.summary == "a: log_length is larger than in training (80% of the evidence)"
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_an_adapter_alone_is_its_own_nearest() -> None:
    assert attribute("a", np.array([0.5, 0.9]), {"a": REFERENCES["a"]}, {}).misrouted_from is None

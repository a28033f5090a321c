"""The list of models: complete, and not read anew from every log each time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from serving.gateway.cards import Cards

if TYPE_CHECKING:
    import pytest

    from tests.gateway.conftest import Running


def test_only_adapters_that_changed_are_read_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = running.registry
    read: Counter[str] = Counter()
    state = registry.state

    def counted(name: str, **fields: Any) -> Any:
        read[name] += 1
        return state(name, **fields)

    monkeypatch.setattr(registry, "state", counted)
    cards = Cards(registry, running.base_name, "sha256:0")
    first = cards.all()
    assert read
    assert set(read.values()) == {1}
    read.clear()
    assert cards.all() == first
    assert not read
    running.publish("carded", 51)
    read.clear()
    assert {card.id for card in cards.all()} - {card.id for card in first} == {"carded"}
    assert read == {"carded": 1}
    running.registry.alias("carded", "canary", "v1")
    assert "carded@canary" in {card.id for card in cards.all()}

"""A bucket under signed rules: its people, and an adapter that they serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.people import People
from tests.registry.stores import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def people(store: MemoryStore, tmp_path: Path) -> People:
    return People(store, tmp_path)


@pytest.fixture
def served(people: People) -> People:
    """`support` under rules: v1 in prod, v2 published."""
    people.govern()
    people.as_("worker").publish("support", people.folder(), aliases={"prod": None})
    people.as_("worker").publish("support", people.folder())
    return people

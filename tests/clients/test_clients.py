"""Real clients, unmodified, each in its own environment: what their users do, and errors as classes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Served

Passes = Callable[..., str]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("client", ["openai", "litellm", "langchain"])
def test_a_python_client(client: str, passes: Passes) -> None:
    assert passes(client, f"{client}_python.py").count(" ok") >= 5


def test_openai_for_javascript(passes: Passes) -> None:
    passes("openai-node", "openai_node.mjs")


def test_a_client_that_met_its_limit_comes_back_when_it_was_told_to(passes: Passes, served: Served) -> None:
    assert passes("openai", "openai_retries.py", LORIMER_API_KEY=served.limited_key) == "ok\n"


def test_the_llm_command(passes: Passes, tmp_path: Path) -> None:
    told = passes("llm", "llm_command.sh", LLM_USER_PATH=str(tmp_path / "llm"))
    chat, streamed, text, fitted, response, missing = told.split("-----\n")
    assert chat == streamed
    assert text.strip()
    assert isinstance(json.loads(fitted)["urgent"], bool)
    assert response.strip()
    assert "nobody" in missing

"""Every file in examples/, run as it stands with the real client, says what plain HTTP says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Run, Served

EXAMPLES = Path(__file__).parents[2] / "examples"
FINE_TUNE = "fine_tune_openai.py"
QUESTION = "My router does not come back after the update."
CLIENTS = {
    "openai_python.py": "openai",
    "openai_node.mjs": "openai-node",
    "litellm_python.py": "litellm",
    "langchain_python.py": "langchain",
    "llm_command.sh": "llm",
    "curl.sh": "openai",
}
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CLIENTS)
def test_an_example_prints_the_adapters_answer(name: str, run: Run, served: Served) -> None:
    done = run(CLIENTS[name], EXAMPLES / name)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = served.answer("support", QUESTION, 32)
    assert words(expected)[:8] in words(done.stdout)
    if name.startswith("openai"):
        assert "served by sha256:" in done.stdout
        assert words(done.stdout).count(words(expected)[:8]) == 2, "whole and as a stream"


@pytest.mark.usefixtures("worker")
def test_the_example_that_fine_tunes_asks_what_it_made(run: Run, served: Served) -> None:
    done = run("openai", EXAMPLES / FINE_TUNE)
    assert done.returncode == 0, done.stdout + done.stderr
    *events, answer = done.stdout.splitlines()
    assert events[0].startswith("created: triage is to be trained from")
    assert any("training loss" in event for event in events)
    assert events[-1] == "succeeded: triage@v1"
    expected = served.answer("triage", "The kitchen is on fire.", 8)
    assert words(answer) == words(f"triage@v1 says {expected}")


def test_every_example_is_run_and_listed() -> None:
    found = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    assert found == {*CLIENTS, FINE_TUNE, "load_test.sh"}
    readme = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\]\(([\w.]+)\)", readme)) == found


def words(text: str) -> str:
    """What survives every terminal and escape: letters and digits."""
    return re.sub(r"\\u[0-9a-f]{4}|\\.|[^A-Za-z0-9]", "", text)

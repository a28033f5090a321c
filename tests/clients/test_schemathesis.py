"""Schemathesis over the document that a gateway serves: nothing fails, and no answer is unlike what it says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.environments import environment

if TYPE_CHECKING:
    from tests.clients.conftest import Served

CONFIGURATION = """\
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
positive_data_acceptance.enabled = false
"""
"""503 and 504 answer deadlines that nobody could keep. What a schema cannot say, such as that two fields exclude each
other, is refused though the schema allows it."""
SEED = 20


@pytest.mark.slow
def test_whatever_is_sent_is_answered_as_the_document_says(served: Served, tmp_path: Path) -> None:
    programs = environment("schemathesis")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        *(str(programs / "schemathesis"), "run", f"{served.url}/openapi.json", "--no-color"),
        *("--header", f"Authorization: Bearer {served.key}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "6", "--seed", str(SEED)),
        *("--continue-on-failure", "--warnings", "off"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=served.environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failures" not in done.stdout
    assert served.http.get("/ready").status_code == 200

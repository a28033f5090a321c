"""A load generator that knows vLLM finds here what it looks for: streams, fields, and metrics by vLLM's names."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.base import Base
from tests.clients.environments import environment
from tests.gateway.conftest import run as serve_here

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

SCRIPT = Path(__file__).parents[2] / "examples" / "load_test.sh"
RUN_S = 180


@pytest.fixture(scope="module")
def unguarded(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without keys, because AIPerf scrapes /metrics without one."""
    for each in serve_here(tiny_base, tmp_path_factory.mktemp("load"), vllm_metric_aliases=True, max_batch=8):
        each.publish("support", 1)
        yield each


@pytest.mark.slow
def test_aiperf_measures_a_gateway(unguarded: Running, tiny_base_dir: Path, tmp_path: Path) -> None:
    programs = environment("aiperf")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LORIMER_", "PYTHON"))} | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LORIMER_URL": unguarded.server.url,
        "LORIMER_TOKENIZER": str(tiny_base_dir),
        "AIPERF_FOLDER": str(tmp_path / "found"),
    }
    done = subprocess.run(
        ["sh", SCRIPT], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=RUN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found" / "profile_export_aiperf.json").read_text())
    assert found["request_count"]["avg"] == 32
    assert found["output_sequence_length"]["avg"] == 32
    assert found["time_to_first_token"]["p99"] > 0
    assert not found.get("error_summary")
    server = json.loads((tmp_path / "found" / "server_metrics_export.json").read_text())
    assert "vllm:time_to_first_token_seconds" in json.dumps(server)

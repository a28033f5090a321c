"""The real `model_signing` command, in an environment of its own below .cache/, made once (about 20 s)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# It imports pyOpenSSL without asking for it.
PACKAGES = ("model-signing==1.1.1", "pyOpenSSL==26.4.0")
ROOT = Path(__file__).parents[2] / ".cache" / "model-signing"

ModelSigning = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def model_signing() -> ModelSigning:
    """model_signing("verify", "key", ...) -> what it printed, and its exit code. Skips where it cannot be installed."""
    command = ROOT / "bin" / "model_signing"
    done = ROOT / "done"
    if not done.is_file() or done.read_text() != " ".join(PACKAGES):
        pip = [ROOT / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
        try:
            subprocess.run([sys.executable, "-m", "venv", ROOT], check=True, capture_output=True)
            subprocess.run(pip, check=True, capture_output=True, timeout=200)
        except (subprocess.SubprocessError, OSError) as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"model-signing cannot be installed here: {error}")
        done.write_text(" ".join(PACKAGES))

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=60)

    return run

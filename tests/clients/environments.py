"""Real client programs, each in an environment of its own below .cache/clients/, made once. Knows no gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / ".cache" / "clients"
LOCKS = Path(__file__).parent / "locks"
INSTALL_S = 280


def environment(client: str) -> Path:
    """Where a client's programs are, or where node finds its packages. Skips where it cannot be made, except in CI."""
    locks = {path.stem: path for path in LOCKS.iterdir()}
    lock, root = locks[client], ROOT / client
    done = root / "done"
    if not done.is_file() or done.read_text() != lock.read_text():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        try:
            _install(root, lock)
        except (subprocess.SubprocessError, OSError) as error:
            told = getattr(error, "stderr", None) or error
            if os.environ.get("CI") == "true":
                pytest.fail(f"{client} cannot be installed: {told}")
            pytest.skip(f"{client} cannot be installed here: {told}")
        done.write_text(lock.read_text())
    return root if lock.suffix == ".json" else root / "bin"


def _install(root: Path, lock: Path) -> None:
    """Exactly what the lock names, and nothing that it does not."""
    if lock.suffix == ".json":
        shutil.copy(lock, root / "package.json")
        _run("npm", "install", "--no-audit", "--no-fund", "--prefix", root)
        return
    _run(sys.executable, "-m", "venv", root)
    pip = (root / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    _run(*pip, "--no-deps", "--no-compile", "-r", lock)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)

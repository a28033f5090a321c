"""A virtual environment per peer, made once, with the versions of constraints.txt. Knows no peer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent.parent / "constraints.txt"


def python_with(name: str, packages: Sequence[str]) -> Path:
    """The interpreter of `.venv-<name>`, with the packages installed."""
    root = HERE / f".venv-{name}"
    python, ready = root / "bin" / "python", root / ".ready"
    if not ready.exists():
        print(f"making {root} with {', '.join(packages)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(root)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
        subprocess.run([*install, *packages], check=True)
        ready.touch()
    return python

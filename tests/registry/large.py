"""Publishes an adapter of 80 MB, killed when this share of the bar is done; a program of its own.

python -m tests.registry.large URL WORK SHARE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from benchmarks.registry.large import profile, write_folder
from registry.adapters import Registry
from registry.settings import load_settings
from registry.store import store_of

SIZE = 80 << 20


def main(url: str, work: Path, share: float) -> None:
    folder = work / "adapter"
    if not folder.exists():
        write_folder(folder, SIZE)
    registry = Registry(store_of(load_settings(), url), actor="large")

    def progress(done: int, total: int) -> None:
        if done > share * total:
            os.kill(os.getpid(), signal.SIGKILL)

    version = registry.publish("large", folder, profile=profile(SIZE), progress=progress)
    registry.pull(f"large@v{version.number}", work / "pulled")
    assert registry.verify("large").num_versions == 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))

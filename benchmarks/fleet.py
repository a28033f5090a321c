"""Thousands of registered adapters in a directory store, published through the registry, once.

All of them would take 20 GB: equal files are hard links to one of sixteen. Every version still has a manifest and a
digest of its own, and whoever serves it fetches, verifies, loads and keeps it on its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

import registry
from benchmarks.materials import Say, settings
from registry.adapters import Registry, open_registry
from registry.directory import DirectoryStore
from serving.base import Base, load_base
from serving.gateway.gateway import Gateway, open_gateway
from serving.gateway.logs import request_log

SIZE = 2000
SMALL = 200
"""Enough for a quick look."""
PUBLISHERS = 2


class LinkingStore(DirectoryStore):
    """Takes files in by hard link."""

    def create_file(self, key: str, path: Path) -> bool:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except FileExistsError:
            return False
        return True


def name(number: int) -> str:
    return f"a{number:04d}"


def publish(base: Base, adapters: Sequence[Path], work: Path, count: int, say: Say) -> Path:
    """The store's folder; made anew when the registry's code has changed."""
    root = work / f"fleet-{count}-{_code_digest()}"
    if root.exists():
        return root
    for stale in work.glob(f"fleet-{count}-*"):
        shutil.rmtree(stale)
    scratch = Path(tempfile.mkdtemp(dir=work, prefix=".fleet-"))
    say(f"publishing {count:,} adapters (once)")
    fleet = Registry(LinkingStore(scratch), actor="benchmark")
    fleet.init()
    fleet.register_base(base.profile)

    def one(number: int) -> None:
        fleet.publish(
            name(number), adapters[number % len(adapters)], tags={"number": str(number)}, aliases={"prod": None}
        )

    with ThreadPoolExecutor(PUBLISHERS) as threads:
        for done, _ in enumerate(threads.map(one, range(count)), 1):
            if done % 250 == 0:
                say(f"published {done:,}")
    scratch.chmod(0o755)
    scratch.rename(root)
    return root


@contextlib.contextmanager
def gateway(work: Path, adapters: Sequence[Path], threads: int, count: int, say: Say) -> Iterator[Gateway]:
    """A gateway with an empty cache over the fleet, everything real but the port; closed at the end."""
    base = load_base(settings(threads), say)
    store = publish(base, adapters, work, count, say)
    for left_behind in work.glob(".cache-*"):  # by a run that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=work, prefix=".cache-") as cache, (Path(cache) / "log").open("w") as log:
        chosen = msgspec.structs.replace(settings(threads), store=f"file://{store}", cache_dir=cache, port=0)
        opened = open_gateway(chosen, open_registry(chosen), base, log=request_log(log))
        try:
            yield opened
        finally:
            opened.close()


def _code_digest() -> str:
    """Of the registry's source: another version of it may write another format."""
    state = hashlib.sha256()
    for path in sorted(Path(registry.__path__[0]).glob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()[:12]

"""A virtual environment per peer, made once, beside this file. Knows no peer."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import Unavailable

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent.parent / "constraints.txt"
TAIL = 12

Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """`.venv-<name>`: packages installed, then some removed. Without `constrained`, pip chooses their dependencies."""

    name: str
    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()
    constrained: bool = True

    @property
    def root(self) -> Path:
        return HERE / f".venv-{self.name}"

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def make(self, say: Say) -> Path:
        """The interpreter. Unavailable: it could not be made; the reason and the log are named."""
        if not self.is_done(self._wish):
            say(f"making {self.root.name} with {', '.join(self.packages)}")
            self.run([sys.executable, "-m", "venv", str(self.root)], "making the environment")
            constraints = ["-c", str(CONSTRAINTS)] if self.constrained else []
            self.pip("install", *constraints, *self.packages)
            if self.removed:
                self.pip("uninstall", "-y", *self.removed)
            self.mark(self._wish)
        return self.python

    def pip(self, verb: str, *arguments: str) -> None:
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", verb, "-q", *arguments]
        self.run(command, f"pip {verb}")

    def run(self, command: Sequence[str], purpose: str) -> None:
        """Run a command, its output kept in `.log-<name>`."""
        log = HERE / f".log-{self.name}"
        try:
            with log.open("ab") as file:
                done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            raise Unavailable(
                f"{self.name}: {purpose} is impossible: {command[0]}: {error.strerror or error}"
            ) from error
        if done.returncode:
            lines = log.read_text(errors="replace").splitlines()[-TAIL:]
            raise Unavailable(f"{self.name}: {purpose} failed", hint="\n".join([f"the end of {log}:", *lines]))

    def is_done(self, step: str) -> bool:
        return self._stamp(step).exists()

    def mark(self, step: str) -> None:
        self._stamp(step).touch()

    def _stamp(self, step: str) -> Path:
        return self.root / f".done-{hashlib.sha256(step.encode()).hexdigest()[:16]}"

    @property
    def _wish(self) -> str:
        """What was asked for; another wish is installed over it."""
        return repr((self.packages, self.removed, self.constrained and CONSTRAINTS.read_text()))

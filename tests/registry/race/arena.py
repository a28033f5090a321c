"""Starts the racers, kills them at random and starts others in their place. Knows nothing of what they do."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

STOP_TIMEOUT_S = 60.0
STOPPED = (0, -signal.SIGTERM)
"""One that was born a moment ago does not listen yet."""

Life = Callable[[str, str, int], object]
"""Called in a child with role, name and seed; does not return."""


@dataclass
class Arena:
    live: Life
    rng: random.Random
    kills: int = 0
    failed: list[str] = field(default_factory=list)
    _alive: dict[int, tuple[str, str]] = field(default_factory=dict)
    _births: int = 0

    def start(self, role: str) -> None:
        self._births += 1
        name, seed = f"{role}-{self._births}", self.rng.randrange(2**32)
        child = os.fork()
        if child == 0:
            self.live(role, name, seed)
        self._alive[child] = (role, name)

    def race(self, seconds: float, kill_every_s: float, tell: Callable[[float], None]) -> None:
        """Until time is over or somebody has found a fault."""
        deadline = time.monotonic() + seconds
        while not self.failed and (left := deadline - time.monotonic()) > 0:
            tell(left)
            time.sleep(min(left, self.rng.uniform(0.2, 1.8) * kill_every_s))
            self._reap()
            self._kill(self.rng.choice([*self._alive]))
        self._stop()

    def _kill(self, child: int) -> None:
        role, _ = self._alive.pop(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.kills += 1
        self.start(role)

    def _stop(self) -> None:
        """Everybody may end what they have begun."""
        for child in self._alive:
            os.kill(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._alive and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        for child, (_, name) in self._alive.items():
            self.failed.append(f"{name} did not stop within {STOP_TIMEOUT_S:g} s")
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _reap(self) -> None:
        for child, (_, name) in [*self._alive.items()]:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del self._alive[child]
                if (code := os.waitstatus_to_exitcode(status)) not in STOPPED:
                    self.failed.append(f"{name} ended with {code}")

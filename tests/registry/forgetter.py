"""A program that forgets a user and is killed before its n-th operation on the store: python -m ... DIRECTORY USER N"""

from __future__ import annotations

import sys
from pathlib import Path

from registry.captures.forgetting import Forgetting
from registry.directory import DirectoryStore
from tests.registry.stores import Killing

if __name__ == "__main__":
    directory, user, kill_at = sys.argv[1:]
    killing = Killing(DirectoryStore(Path(directory)), int(kill_at))
    Forgetting(killing, "default").forget(user)  # type: ignore[arg-type]

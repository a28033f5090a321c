from __future__ import annotations

import pytest

from registry.errors import Corrupt, NotFound
from serving.adapter import LoadedAdapter
from serving.quarantine import Quarantine, Quarantined


def adapter(digest: str) -> LoadedAdapter:
    return LoadedAdapter(digest, f"name of {digest}", {}, 0)


def test_a_reported_version_stays_until_it_is_released() -> None:
    quarantine = Quarantine(clock=lambda: 5.0)
    quarantine.check("sha256:a")
    quarantine.report(adapter("sha256:a"), Corrupt("gave numbers that are not finite"))
    quarantine.report(adapter("sha256:a"), Corrupt("again"))
    for _ in range(3):
        with pytest.raises(Quarantined, match="not finite"):
            quarantine.check("sha256:a")
    quarantine.check("sha256:b")
    (case,) = quarantine.cases()
    assert (case.since, case.times, case.refused) == (5.0, 2, 3)
    assert quarantine.release("sha256:a") == case
    quarantine.check("sha256:a")
    with pytest.raises(NotFound):
        quarantine.release("sha256:a")

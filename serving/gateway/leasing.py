"""The weights that a choice means, in memory and held there: one version, or several mixed into one. Knows no HTTP."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from registry.errors import Invalid, Refused
from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.gateway.choosing import Choice
from serving.lease import Lease, give_up
from serving.mix import mix
from serving.residency import Residency
from serving.seats import Make, Reserve


async def lease_of(choice: Choice, residency: Residency, base: Base) -> Lease | None:
    """None for the bare base. A caller that is cancelled meanwhile leaves no lease behind."""
    if not choice.parts:
        return None if choice.digest is None else await _granted(residency.request(choice.digest))
    if (lease := residency.held(choice.fingerprint)) is not None:
        return lease
    leases: list[Lease] = []
    try:
        for part in choice.parts:
            leases.append(await _granted(residency.request(part.version.digest)))
        weights = [part.weight for part in choice.parts]
        return await _granted(residency.request(choice.fingerprint, _mixing(base, leases, weights)))
    finally:
        for lease in leases:
            lease.release()


def _mixing(base: Base, leases: list[Lease], weights: list[float]) -> Make:
    """The parts must stay leased until it is made."""

    def make(reserve: Reserve) -> LoadedAdapter:
        reserve(sum(lease.adapter.num_bytes for lease in leases))
        try:
            return mix(base, [(lease.adapter, weight) for lease, weight in zip(leases, weights, strict=True)])
        except Refused as error:
            raise Invalid(error.message, param="adapters", code="unsupported_mix") from error

    return make


async def _granted(pending: Future[Lease]) -> Lease:
    if pending.done():
        return pending.result()
    try:
        return await asyncio.wrap_future(pending)
    except asyncio.CancelledError:
        give_up(pending)
        raise

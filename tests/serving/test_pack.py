from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.pack import Pack

from .zoo import KINDS, Zoo


def delta_of(pack: Pack, base: Base, slot: int) -> dict[int, torch.Tensor]:
    """The dense weight change each site would get from a slot: (out, in)."""
    changes = {}
    for site in base.sites:
        table = pack.table(site.index)
        if table is not None:
            pieces = [
                (table.a[slot][:, offset : offset + rank] @ b[slot]).t()
                for b, rank, offset in zip(table.b, table.ranks, table.offsets, strict=True)
            ]
            changes[site.index] = torch.cat(pieces)
    return changes


def expected(adapter: LoadedAdapter, base: Base) -> dict[int, torch.Tensor]:
    changes = {}
    for index, delta in adapter.deltas.items():
        site = base.sites[index]
        pieces = [torch.zeros(out, site.in_features) for out in site.out_features]
        for part in delta.parts:
            pieces[part.sibling] = (delta.a[:, part.start : part.stop] @ part.b).t()
        changes[index] = torch.cat(pieces)
    return changes


@settings(max_examples=40, deadline=None)
@given(sets=st.lists(st.lists(st.integers(0, len(KINDS) - 1), max_size=6), max_size=8))
def test_after_any_changes_every_slot_holds_its_adapter(zoo: Zoo, sets: list[list[int]]) -> None:
    pack = Pack(zoo.base.sites)
    for members in sets:
        slots = pack.seat(zoo.adapters[index] for index in members)
        assert sorted(slots.values()) == list(range(pack.num_slots)) == list(range(len(set(members))))
        for adapter, slot in slots.items():
            found, wanted = delta_of(pack, zoo.base, slot), expected(adapter, zoo.base)
            assert wanted.keys() <= found.keys()
            for site, change in found.items():
                torch.testing.assert_close(change, wanted.get(site, torch.zeros_like(change)))
            check_gains(pack, zoo.base, adapter, slot)


def check_gains(pack: Pack, base: Base, adapter: LoadedAdapter, slot: int) -> None:
    for site in base.sites:
        delta, table = adapter.deltas.get(site.index), pack.table(site.index)
        for field, neutral in (("gain", 1.0), ("bias", 0.0), ("input_gain", 1.0)):
            wanted = getattr(delta, field, None)
            held = getattr(table, field, None)
            if held is None:
                assert wanted is None
            else:
                torch.testing.assert_close(
                    held[slot], torch.full_like(held[slot], neutral) if wanted is None else wanted
                )
        replacement = None if table is None else table.replacements.get(slot)
        assert replacement is getattr(delta, "replacement", None)


def test_plain_adapters_carry_no_gains_once_the_others_have_left(zoo: Zoo) -> None:
    pack = Pack(zoo.base.sites)
    plain, dora = zoo.adapters[0], zoo.adapters[next(i for i, kind in enumerate(KINDS) if kind.get("use_dora"))]
    index = next(iter(plain.deltas))
    pack.seat([plain])
    before = pack.table(index)
    assert before is not None
    assert before.gain is None
    pack.seat([plain, dora])
    between = pack.table(index)
    assert between is not None
    assert between.gain is not None
    pack.seat([plain])
    after = pack.table(index)
    assert after is not None
    assert after.gain is after.bias is None


def test_a_member_that_stays_is_not_copied_again(zoo: Zoo, monkeypatch: Any) -> None:
    pack = Pack(zoo.base.sites)
    pack.seat(zoo.adapters[:3])
    written: list[LoadedAdapter] = []
    monkeypatch.setattr(Pack, "_write", lambda _self, _slot, adapter: written.append(adapter))
    pack.seat(reversed(zoo.adapters[:3]))
    assert written == []
    pack.seat([zoo.adapters[0], zoo.adapters[4], zoo.adapters[2]])
    assert written == [zoo.adapters[4]]


def test_a_failed_change_leaves_nothing_half_packed(zoo: Zoo, monkeypatch: Any) -> None:
    pack = Pack(zoo.base.sites)

    def explode(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Pack, "_write", explode)
        try:
            pack.seat(zoo.adapters[:2])
        except MemoryError:
            assert pack.num_slots == 0
    slots = pack.seat(zoo.adapters[:1])
    site, change = next(iter(expected(zoo.adapters[0], zoo.base).items()))
    torch.testing.assert_close(delta_of(pack, zoo.base, slots[zoo.adapters[0]])[site], change)

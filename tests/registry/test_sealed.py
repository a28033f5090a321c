"""Sealed bytes: no byte can change unnoticed. Signed events: the payload, and whose word a reader takes."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.canonical import canonical, sha256
from registry.errors import Corrupt
from registry.log import Event, Signature
from registry.sealed import is_whole, seal
from tests.registry.stores import MemoryStore
from tests.registry.values import Add, Op, Values, fold, forged, open_log, write


class Note(msgspec.Struct, frozen=True):
    text: str
    sum: str = ""


TEXTS = st.text(max_size=30) | st.sampled_from(['"sum":""', '","sum":"', "\\", "é\u2028\U0001f600"])


@given(text=TEXTS)
def test_what_is_sealed_is_whole_and_canonical(text: str) -> None:
    data = seal(Note(text))
    note = msgspec.json.decode(data, type=Note)
    assert note.text == text
    assert is_whole(data, note.sum)
    assert canonical(note) == data


@given(text=TEXTS, where=st.integers(0, 200), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_is_seen_or_harmless(text: str, where: int, bit: int) -> None:
    data = bytearray(seal(Note(text)))
    data[where % len(data)] ^= 1 << bit
    try:
        note = msgspec.json.decode(bytes(data), type=Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert not is_whole(bytes(data), note.sum)


KEYS = {"ann": b"1", "bob": b"2"}


def mac(key: str, payload: bytes) -> Signature:
    return Signature(key, b64encode(hmac.digest(KEYS[key], payload, hashlib.sha256)).decode())


def authenticate(payload: bytes, signatures: tuple[Signature, ...]) -> tuple[str, ...]:
    return tuple(found.keyid for found in signatures if found.keyid in KEYS and found == mac(found.keyid, payload))


def fold_signed(state: Values, event: Event[Op]) -> Values:
    return fold(state, event) if event.signers else state


def test_a_reader_learns_who_signed_and_takes_nobodys_word_for_it() -> None:
    store = MemoryStore()
    log = open_log(store, sign=lambda payload: (mac("ann", payload), mac("bob", payload)), authenticate=authenticate)
    event = log.append([Add(7)])
    assert (event.v, event.signers) == (2, ("ann", "bob"))
    assert b"signers" not in store.get(log.slot(1))
    for signers, options in [(("ann", "bob"), {"authenticate": authenticate}), (msgspec.UNSET, {})]:
        assert next(open_log(store, **options).events()).signers == signers
    claimed = forged(store.get(log.slot(1)), b'"sum"', b'"signers":["ann"],"sum"')
    store.put(log.slot(1), claimed)
    for signers, options in [((), {"authenticate": authenticate}), (msgspec.UNSET, {})]:
        assert next(open_log(store, **options).events()).signers == signers


@pytest.mark.parametrize(
    ("old", "new"), [(b'"value":7', b'"value":8'), (b'"ann"', b'"eve"'), (b'"time":0', b'"time":1')]
)
def test_an_altered_event_is_signed_by_nobody(old: bytes, new: bytes) -> None:
    store = MemoryStore()
    log = open_log(store, sign=lambda payload: (mac("ann", payload),), authenticate=authenticate)
    log.append([Add(7)])
    store.put(log.slot(1), forged(store.get(log.slot(1)), old, new))
    assert next(open_log(store, authenticate=authenticate).events()).signers == ()


def test_the_writers_notes_are_of_the_state_its_own_signature_makes() -> None:
    options = {
        "apply": fold_signed,
        "annotate": lambda state: {"next_version": len(state.values)},
        "authenticate": authenticate,
        "trust_checkpoints": False,
    }
    store = MemoryStore()
    signed = open_log(store, sign=lambda payload: (mac("bob", payload),), **options)
    assert [signed.append([Add(value)]).next_version for value in (1, 2)] == [1, 2]
    assert open_log(store, **options).append([Add(3)]).next_version == 2  # unsigned: void
    assert signed.fold() == open_log(store, **options).fold() == Values((1, 2))


def test_a_payload_without_canonical_form_is_signed_by_nobody() -> None:
    store = MemoryStore()
    log = open_log(store, sign=lambda payload: (mac("ann", payload),))
    log.append([Add(7)])
    store.put(log.slot(1), forged(store.get(log.slot(1)), b'"value":7', b'"value":1e400'))
    with pytest.raises(Corrupt):
        open_log(store, authenticate=authenticate).fold()
    store.put(log.slot(1), forged(store.get(log.slot(1)), b'"value":1e400', b'"value":%d' % 2**60))
    assert next(open_log(store, authenticate=authenticate).events()).signers == ()


def test_events_of_the_first_release_have_no_sum() -> None:
    store = MemoryStore()
    log = open_log(store)
    write(log, 1)
    fields = msgspec.json.decode(store.get(log.slot(1)))
    del fields["sum"]
    store.put(log.slot(1), canonical(fields))
    assert open_log(store).append([Add(5)]).prev == sha256(canonical(fields))
    assert open_log(store).verify().state == Values((0, 5))

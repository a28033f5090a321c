"""Who is forgotten is forgotten whole, and nobody else is: whatever crashes, races or comes late."""

from __future__ import annotations

import gzip
import itertools
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.captures import CaptureRecord, CaptureWriter, FeedbackRecord, read_captures
from registry.captures.erasures import MARGIN_S, Counts, Erasures
from registry.captures.expiry import DAY_S, Expiry
from registry.captures.forgetting import ABANDONED_S, Forgetting
from registry.captures.objects import CaptureObjects
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.records import Record, pack
from registry.directory import DirectoryStore
from registry.errors import Corrupt
from registry.store import Store
from tests.registry.conftest import FakeClock
from tests.registry.stores import MemoryStore, Wrapper

WEIRD = ["ada", "Ada", "ada ", "zoë ☃ 李", "a/b/../c", "%2e%2e", "'; drop table--", "\x00\n\r", "\ud800", "x" * 10_000]


class Scene:
    """A store with records of several users, written by one gateway."""

    def __init__(self, clock: FakeClock, store: Store | None = None) -> None:
        self.store = store or MemoryStore()
        self.clock = clock
        self.named = Pseudonyms(self.store, "default").of
        self.writer = CaptureWriter(self.store, "default", "gw", clock)

    def request(self, request_id: str, *users: str, text: str = "", adapter: str = "x") -> CaptureRecord:
        return CaptureRecord(
            request_id=request_id,
            time=self.clock(),
            asked_at=self.clock(),
            session=request_id,
            adapter=adapter,
            digest="sha256:1",
            messages=[{"role": "user", "content": text or f"text of {request_id}"}],
            response="yes",
            users=tuple(map(self.named, users)),
        )

    def ask(self, request_id: str, *users: str, adapter: str = "x") -> None:
        self.writer.request(self.request(request_id, *users, adapter=adapter))

    def judge(self, request_id: str, *users: str, correction: str = "no") -> None:
        self.writer.feedback(
            FeedbackRecord(
                request_id=request_id,
                time=self.clock(),
                adapter="x",
                correction=correction,
                users=tuple(map(self.named, users)),
            )
        )

    def forget(self, user: str) -> Counts:
        forgetting = Forgetting(self.store, "default", self.clock)
        counts = forgetting.erasures.counts(forgetting.forget(user))
        assert counts is not None
        return counts

    def read(self) -> set[str]:
        return {each.request_id for each in read_captures(self.store, "default", None)}

    def raw(self) -> str:
        """Everything that lies in the bucket under captures."""
        keys = list(self.store.list("t/default/captures/"))
        return b"".join(gzip.decompress(self.store.get(key)) for key in keys).decode()


@pytest.fixture
def scene(clock: FakeClock) -> Scene:
    return Scene(clock)


def test_requests_and_feedback_go_and_are_counted(scene: Scene) -> None:
    for number in range(6):
        scene.ask(f"r{number}", "ada" if number % 2 else "bob")
    scene.judge("r1", correction="what ada meant")
    scene.writer.flush()
    scene.judge("r0", "ada", correction="what ada thinks")
    scene.judge("r0", "bob", correction="what bob thinks")
    scene.ask("shared", "ada", "team")
    scene.writer.flush()
    assert scene.forget("ada") == Counts(requests=4, feedback=2, objects=3)
    assert scene.read() == {"r0", "r2", "r4"}
    raw = scene.raw()
    assert not any(word in raw for word in ('"r1"', '"r3"', '"r5"', "shared", "what ada", scene.named("ada")))
    (judged,) = (each for each in read_captures(scene.store, "default", "x") if each.request_id == "r0")
    assert judged.correction == "what bob thinks"
    assert scene.forget("ada") == Counts(), "again, there is nothing left"
    assert scene.forget("nobody") == Counts()


@pytest.mark.parametrize("user", WEIRD)
def test_any_id_can_be_forgotten(scene: Scene, user: str) -> None:
    for number, each in enumerate(WEIRD):
        scene.ask(f"r{number}", each)
    scene.writer.flush()
    assert scene.forget(user).requests == 1
    assert scene.read() == {f"r{number}" for number, each in enumerate(WEIRD) if each != user}


def test_no_name_is_on_record(scene: Scene) -> None:
    scene.ask("r1", "zoe@example.org")
    scene.judge("r1", "zoe@example.org")
    scene.forget("zoe@example.org")
    assert isinstance(scene.store, MemoryStore)
    everything = b"".join([*scene.store.data.values(), *(key.encode() for key in scene.store.data)])
    assert b"zoe" not in everything
    assert [each.is_done for each in Erasures(scene.store, "default").standing()] == [True]


def test_who_comes_back_later_is_kept_again(scene: Scene) -> None:
    scene.ask("before", "ada")
    scene.forget("ada")
    scene.clock.now += MARGIN_S / 2
    scene.ask("too soon", "ada")
    scene.clock.now += MARGIN_S
    scene.ask("after", "ada")
    scene.writer.flush()
    assert scene.read() == {"after"}
    assert scene.forget("ada").requests == 1
    assert scene.read() == set()


def test_records_of_older_programs_carry_the_user_as_their_session(scene: Scene) -> None:
    old = b'{"kind":"request","request_id":"%s","time":1.0,"session":"%s","adapter":"x","digest":"d",' \
          b'"messages":[],"response":"y"}\n'  # fmt: skip
    lines = old % (b"r1", b"ada") + old % (b"r2", b"bob") + b'{"kind":"feedback","request_id":"r1","time":2.0,' \
        b'"adapter":"x","correction":"old words"}\n'  # fmt: skip
    scene.store.create("t/default/captures/2026-01-01/01K00000000000000000000000-gw.jsonl.gz", pack(lines))
    assert scene.forget("ada") == Counts(requests=1, feedback=1, objects=1)
    assert scene.read() == {"r2"}
    assert "old words" not in scene.raw()


def test_what_a_gateway_still_holds_is_gone_when_it_writes_it(scene: Scene) -> None:
    scene.ask("r1", "ada")
    scene.ask("r2", "bob")
    assert scene.forget("ada") == Counts(), "nothing is in the bucket yet"
    scene.writer.flush()
    assert scene.read() == {"r2"}
    assert "r1" not in scene.raw()


def test_nobody_reads_it_even_before_it_is_taken_out(scene: Scene) -> None:
    scene.ask("r1", "ada")
    scene.ask("r2", "bob")
    scene.writer.flush()
    Erasures(scene.store, "default", scene.clock).ask("ada")
    assert "r1" in scene.raw()
    assert scene.read() == {"r2"}


def test_a_gateway_finishes_what_others_began(scene: Scene) -> None:
    scene.ask("r1", "ada")
    scene.writer.flush()
    forgetting = Forgetting(scene.store, "default", scene.clock)
    forgetting.erasures.ask("ada")
    forgetting.tend()
    assert "r1" in scene.raw(), "whoever asked may be at work on it"
    scene.clock.now += ABANDONED_S + 1
    forgetting.tend()
    assert "r1" not in scene.raw()
    assert all(each.is_done for each in forgetting.erasures.standing())


def test_a_gateway_that_died_before_it_could_look_is_tidied_after(scene: Scene) -> None:
    scene.ask("r0", "bob")
    scene.writer.flush()
    late = scene.request("r1", "ada")
    verdict = FeedbackRecord(request_id="r1", time=scene.clock(), adapter="x", correction="her words")
    scene.forget("ada")
    scene.clock.now += 5
    records: list[Record] = [late, verdict]
    for record in records:  # as a gateway leaves them that dies right after
        CaptureObjects(scene.store, "default").create([record], scene.clock(), "dead")
    forgetting = Forgetting(scene.store, "default", scene.clock)
    assert forgetting.tend() >= 1
    assert "her words" not in scene.raw()
    assert "r1" not in scene.raw()
    assert scene.read() == {"r0"}


def test_an_object_that_no_gateway_wrote_is_named(scene: Scene) -> None:
    scene.ask("r1", "ada")
    scene.writer.flush()
    scene.forget("ada")
    scene.store.create("t/default/captures/notes", b"mine")
    with pytest.raises(Corrupt, match="captures/notes"):
        Forgetting(scene.store, "default", scene.clock).tend()


def test_damage_stops_it_and_is_named(scene: Scene) -> None:
    scene.ask("r1", "ada")
    scene.writer.flush()
    scene.store.put("t/default/captures/2026-01-01/X.jsonl.gz", b"not gzip")
    with pytest.raises(Corrupt, match=r"X\.jsonl\.gz"):
        scene.forget("ada")
    scene.store.delete("t/default/captures/2026-01-01/X.jsonl.gz")
    assert scene.forget("ada").requests == 1


class Died(BaseException):
    """The process is gone."""


class Mortal(Wrapper):
    """Dies before its n-th write."""

    def __init__(self, inner: Store, writes: int) -> None:
        super().__init__(inner)
        self.left = writes

    def _spend(self) -> None:
        if self.left == 0:
            raise Died
        self.left -= 1

    def create(self, key: str, data: bytes) -> bool:
        self._spend()
        return self.inner.create(key, data)

    def delete(self, key: str) -> None:
        self._spend()
        self.inner.delete(key)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=5), max_size=6),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_a_crash_loses_nobody_and_leaves_nothing(batches: list[list[tuple[str, bool]]], deaths: list[int]) -> None:
    scene = Scene(FakeClock())
    ids: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    for batch in batches:
        for user, judged in batch:
            request_id = f"<{user}{sum(map(len, ids.values()))}>"
            ids[user].add(request_id)
            scene.ask(request_id, user)
            if judged:
                scene.judge(request_id)
        scene.writer.flush()
    for writes in deaths:
        dying = Forgetting(Mortal(scene.store, writes), "default", scene.clock)  # type: ignore[arg-type]
        with suppress(Died):
            dying.forget("a")
        assert ids["b"] | ids["c"] <= scene.read() <= ids["b"] | ids["c"] | ids["a"]
        if dying.erasures.standing():
            assert not scene.read() & ids["a"], "once it is asked for, nobody reads it"
    scene.forget("a")
    assert scene.read() == ids["b"] | ids["c"]
    assert "<a" not in scene.raw()
    assert all(request_id in scene.raw() for request_id in ids["b"] | ids["c"])


def test_a_process_killed_anywhere(tmp_path: Path) -> None:
    """A real one, on a real directory, before each of its operations in turn; then it is run again, and lives."""
    made = Scene(FakeClock(time.time()), DirectoryStore(tmp_path / "made"))
    for number in range(6):
        made.ask(f"<ada{number}>", "ada")
        made.ask(f"<bob{number}>", "bob")
        made.judge(f"<ada{number}>", "bob")
    bobs = {f"<bob{number}>" for number in range(6)}
    for kill_at in itertools.count():
        place = shutil.copytree(tmp_path / "made", tmp_path / str(kill_at))
        program = [sys.executable, "-m", "tests.registry.forgetter", str(place), "ada"]
        killed = subprocess.run([*program, str(kill_at)], check=False)
        scene = Scene(FakeClock(time.time()), DirectoryStore(place))
        assert bobs <= scene.read()
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        scene.forget("ada")
        assert scene.read() == bobs
        assert "<ada" not in scene.raw()
    assert kill_at > 15
    assert scene.read() == bobs


class Interrupted(Wrapper):
    """Does something else right before the first write that matches."""

    def __init__(self, inner: Store, before: str, do: Callable[[], object]) -> None:
        super().__init__(inner)
        self.before, self.do = before, do

    def _meet(self, what: str) -> None:
        if self.before and self.before in what:
            self.before, do = "", self.do
            do()

    def create(self, key: str, data: bytes) -> bool:
        self._meet(f"create {key}")
        return self.inner.create(key, data)

    def delete(self, key: str) -> None:
        self._meet(f"delete {key}")
        self.inner.delete(key)


@pytest.mark.parametrize("before", [".r0001-", "delete t/default/captures", ".found", ".done", ".asked"])
def test_two_who_forget_at_once_forget_both(scene: Scene, before: str) -> None:
    """The second begins and ends while the first stands still before some write."""
    for number, user in enumerate(["ada", "bob", "eve"] * 3):
        scene.ask(f"<{user}{number}>", user)
        if number % 4 == 3:
            scene.writer.flush()
    scene.writer.flush()
    held = Interrupted(scene.store, before, lambda: scene.forget("bob"))
    Forgetting(held, "default", scene.clock).forget("ada")  # type: ignore[arg-type]
    assert held.before == "", "it was interrupted"
    assert {each[1:4] for each in scene.read()} == {"eve"}
    assert len(scene.read()) == 3
    assert "<ada" not in scene.raw()
    assert "<bob" not in scene.raw()


def test_a_gateway_that_writes_while_somebody_is_forgotten(scene: Scene) -> None:
    """The batch lands between the listing of objects and the end of the erasure, and after it."""
    for when in ("delete t/default/captures", "create t/default/captures", ".done"):
        scene.ask(f"<old {when}>", "ada")
        scene.ask("<bob>", "bob")
        scene.writer.flush()
        scene.ask(f"<new {when}>", "ada")
        held = Interrupted(scene.store, when, scene.writer.flush)
        Forgetting(held, "default", scene.clock).forget("ada")  # type: ignore[arg-type]
        assert held.before == ""
        assert "<old" not in scene.raw()
        assert "<new" not in scene.raw()
        scene.clock.now += 2 * MARGIN_S
    held = Interrupted(scene.store, "create t/default/captures", lambda: scene.forget("ada"))
    writer = CaptureWriter(held, "default", "other", scene.clock)  # type: ignore[arg-type]
    writer.request(scene.request("<late>", "ada"))
    writer.flush()
    assert "<late>" not in scene.raw()


def test_an_expiry_that_rewrites_meanwhile(scene: Scene) -> None:
    """It read the object before the erasure was asked for, and writes it after the erasure is done."""
    scene.writer.request(scene.request("<old>", adapter="short"))
    scene.clock.now += 3 * DAY_S
    for name in ("ada", "bob"):
        scene.ask(f"<{name}>", name)
    scene.writer.flush()
    scene.clock.now += DAY_S
    held = Interrupted(scene.store, ".r0001-", lambda: scene.forget("ada"))
    Expiry(held, "default", scene.clock).run({"short": 2.0}.get)  # type: ignore[arg-type]
    assert held.before == ""
    assert "<ada>" not in scene.raw()
    Expiry(scene.store, "default", scene.clock).run({"short": 2.0}.get)
    assert "<old>" not in scene.raw(), "the erasure wrote it again, and the next run finds it"
    assert scene.read() == {"<bob>"}


def test_many_threads(clock: FakeClock) -> None:
    """Gateways write and readers read while four people are forgotten at once."""
    scene = Scene(clock)
    people = [f"user{number}" for number in range(8)]
    stop, seen, rng = threading.Event(), list[set[str]](), random.Random(3)
    kept = {f"<user{number}-old{index}>" for number in range(4, 8) for index in range(20)}
    for index in range(20):
        for person in people:
            scene.ask(f"<{person}-old{index}>", person)
        if rng.random() < 0.5:
            scene.writer.flush()
    scene.writer.flush()

    def write(name: str) -> None:
        writer = CaptureWriter(scene.store, "default", name, clock)
        for index in range(40):
            for person in people:
                writer.request(scene.request(f"<{person}-{name}{index}>", person))
            writer.flush()

    def read() -> None:
        while not stop.is_set():
            seen.append(scene.read())

    reader = threading.Thread(target=read)
    workers = [threading.Thread(target=write, args=(name,)) for name in ("g1", "g2")]
    workers += [threading.Thread(target=scene.forget, args=(person,)) for person in people[:4]]
    for thread in [reader, *workers]:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    reader.join()
    assert all(kept <= each for each in seen), "no reader ever missed what stays"
    assert not any(f"<{person}-" in scene.raw() for person in people[:4])
    written = {f"<{person}-{name}{index}>" for person in people[4:] for name in ("g1", "g2") for index in range(40)}
    assert scene.read() == kept | written


def test_tenants_have_keys_of_their_own(clock: FakeClock) -> None:
    store = MemoryStore()
    assert Pseudonyms(store, "a").of("ada") != Pseudonyms(store, "b").of("ada")
    assert Pseudonyms(store, "a").of("ada") == Pseudonyms(store, "a").of("ada")
    store.put("t/a/pseudonyms/key", b"short")
    with pytest.raises(Corrupt, match="pseudonyms/key"):
        Pseudonyms(store, "a").of("ada")


def test_objects_without_the_user_are_left_alone(scene: Scene) -> None:
    scene.ask("r1", "bob")
    scene.writer.flush()
    before = list(scene.store.list("t/default/captures/"))
    scene.ask("r2", "ada")
    scene.writer.flush()
    scene.forget("ada")
    assert list(scene.store.list("t/default/captures/")) == before

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from registry.adapters import Registry, Version
from registry.captures import CaptureRecord, CaptureWriter, FeedbackRecord, read_captures
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.remains import forget
from registry.consent import set_rules
from registry.datasets import Datasets
from registry.errors import Conflict, Invalid, Refused
from registry.manifest import DatasetRecord
from registry.rules import AliasRule, Bound, Rules
from registry.signing import SigningKey, new_key
from registry.trust import Trust
from tests.trainer.letters import letters
from trainer.dataset import Example, Splits, Verbaliser, write_splits
from trainer.retrain import (
    DriftJob,
    challenger_gates,
    challenger_spec,
    mix,
    new_examples,
    read_job,
    retrain,
    stored_splits,
    usable_corrections,
)
from trainer.rows import Message
from trainer.spec import Gate, Spec

if TYPE_CHECKING:
    from tests.trainer.conftest import Lab

COUNTER = itertools.count()


def capture(lab: Lab, version: Version, kind: str, correction: str | None, count: int) -> list[str]:
    """Live requests with what people said about the answers; returns the request ids."""
    writer = CaptureWriter(lab.registry.store, "default", "gateway")
    ids = []
    for _ in range(count):
        number = next(COUNTER)
        ids.append(f"request-{number}")
        messages = [{"role": "user", "content": letters(kind, 10_000 + number)}]
        record = CaptureRecord(
            request_id=ids[-1],
            time=1000.0 + number,
            session=f"session-{number}",
            adapter=version.adapter,
            digest=version.digest,
            messages=messages,
            response="v",
        )
        writer.request(record)
        if correction is not None:
            feedback = FeedbackRecord(
                request_id=ids[-1], time=2000.0 + number, adapter=version.adapter, correction=correction
            )
            writer.feedback(feedback)
    writer.flush()
    return ids


def job(version: Version, ids: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "kind": "drift-retrain",
        "adapter": version.adapter,
        "parent": version.digest,
        "episode": "episode-1",
        "since": 1000.0,
        "examples": len(ids),
        "request_ids": ids,
    } | changes


def run(lab: Lab, spec: dict[str, Any]) -> Any:
    return retrain(spec, lab.registry, lab.base, lab.engine, home=lab.home)


def test_a_challenger_learns_a_new_label_and_replaces_the_champion(lab: Lab, champion: Version) -> None:
    ids = capture(lab, champion, "digits", "d", 40)
    lab.registry.set_policy("letters", {"capture": True, "min_examples": 99})
    outcome = run(lab, job(champion, ids))
    version = outcome.version
    assert version is not None, outcome.verdict.reasons
    assert lab.registry.resolve("letters@prod") == version
    assert version.manifest.parent is not None
    assert version.manifest.parent.digest == champion.digest
    assert version.manifest.trigger == "episode-1"
    measured = outcome.evidence.measured
    assert measured.parent is not None
    assert (measured.candidate["new/accuracy"].value or 0) > (measured.parent["new/accuracy"].value or 0)
    assert (measured.candidate["test/accuracy"].value or 0) >= 0.9
    assert measured.candidate["new/accuracy"].n == 16
    assert lab.registry.policy("letters").min_examples == 99

    splits = stored_splits(lab.registry, version)
    fresh = [row for _, rows in splits.items() for row in rows if row.meta.get("source") == "feedback"]
    assert {row.meta["request_id"] for row in fresh} == set(ids)
    assert {row.label for row in fresh} == {"d"}
    trained = {row.prompt_key for row in splits.train}
    assert not trained & {row.prompt_key for row in (*splits.test, *splits.val)}


def test_under_rules_the_workers_key_brings_it_to_prod(lab: Lab, champion: Version, tmp_path: Path) -> None:
    root, worker = new_key(tmp_path / "root.key"), new_key(tmp_path / "worker.key")
    limits = {"test/accuracy": Bound(min=0.9)}
    rules = Rules(
        keys={"root": root.id, "worker": worker.id},
        owners=("root",),
        publishers=("worker",),
        aliases={"prod": AliasRule(signers=("worker",), metrics=limits)},
    )

    def place(key: SigningKey | None) -> Lab:
        trust = Trust(key, frozenset({root.id}))
        return dataclasses.replace(lab, registry=Registry(lab.registry.store, actor="worker", trust=trust))

    place(root).registry.commit("letters", set_rules(rules))
    asked = job(champion, capture(lab, champion, "digits", "d", 40))
    with pytest.raises(Refused, match="publishing is for root, worker, not for somebody without a key"):
        run(place(None), asked)
    outcome = run(place(worker), asked)
    assert outcome.version is not None, outcome.verdict.reasons
    assert place(None).registry.resolve("letters@prod") == outcome.version
    assert outcome.version.signers == (worker.id,)
    assert set(outcome.version.manifest.tags) == {"suite/test", "suite/new"}


def test_one_that_does_not_beat_the_champion_is_rejected(lab: Lab, champion: Version) -> None:
    outcome = run(lab, job(champion, capture(lab, champion, "vowels", "v", 30)))
    assert outcome.version is None
    assert any("new/accuracy" in reason for reason in outcome.verdict.failures)
    assert lab.registry.resolve("letters@prod") == champion
    assert len(lab.registry.state("letters").versions) == 1


def test_it_is_not_begun_without_examples_or_once_prod_moved(lab: Lab, champion: Version) -> None:
    few = capture(lab, champion, "digits", "d", 6)
    with pytest.raises(Refused, match="6 usable corrections"):
        run(lab, job(champion, few))
    lab.registry.alias("letters", "prod", None)
    with pytest.raises(Conflict, match="letters@prod is no longer letters@v1"):
        run(lab, job(champion, few))
    with pytest.raises(Invalid, match="not a drift job"):
        read_job({"kind": "drift-retrain"})


def test_prod_moved_while_training_keeps_the_mover(lab: Lab, champion: Version) -> None:
    ids = capture(lab, champion, "digits", "d", 40)

    def move(stage: str, *_: object) -> None:
        if stage == "profiling input" and "prod" in lab.registry.state("letters").aliases:
            lab.registry.alias("letters", "prod", None)

    with pytest.raises(Conflict):
        retrain(job(champion, ids), lab.registry, lab.base, lab.engine, move, home=lab.home)
    assert len(lab.registry.state("letters").versions) == 1


def test_only_admitted_corrections_count_and_the_latest_word_wins(lab: Lab, champion: Version) -> None:
    ids = capture(lab, champion, "digits", "d", 5)
    capture(lab, champion, "digits", None, 3)
    captures = read_captures(lab.registry.store, "default", "letters")
    assert [row.request_id for row in usable_corrections(lab.registry, read_job(job(champion, ids[:2])))] == ids[:2]
    assert len(usable_corrections(lab.registry, read_job(job(champion, [])))) == 5
    again = [*captures[:1], msgspec.structs.replace(captures[0], request_id="later", correction="v")]
    (row,) = new_examples(again, Verbaliser({"d": "d", "v": "v"}))
    assert (row.label, row.meta["request_id"]) == ("v", "later")


def test_rows_of_forgotten_people_are_not_replayed(lab: Lab, champion: Version, tmp_path: Path) -> None:
    """Neither their captures nor the rows of earlier datasets that were made of them."""
    store, clock = lab.registry.store, lab.registry.clock
    named, writer = Pseudonyms(store, "default").of, CaptureWriter(store, "default", "gateway", clock)
    for user in ("ada", "bob"):
        said = [{"role": "user", "content": f"{user} asks"}]
        record = CaptureRecord(
            request_id=f"of-{user}", time=clock(), session=user, adapter="letters", digest=champion.digest,
            messages=said, response="v", users=(named(user),),
        )  # fmt: skip
        writer.request(record)
        writer.feedback(FeedbackRecord(request_id=f"of-{user}", time=clock(), adapter="letters", correction="s"))

    def row(of: str, **meta: str) -> Example:
        return Example((Message("user", of), Message("assistant", "v")), "v", meta)

    rows = (row("ada", request_id="of-ada"), row("bob", request_id="of-bob"), row("nobody"))
    write_splits(Splits(train=rows, val=rows[:1], test=rows[1:]), tmp_path / "rows.jsonl")
    sha256 = Datasets(store, "default").put(tmp_path / "rows.jsonl")
    lab.registry.pull("letters@prod", tmp_path / "again")
    record = DatasetRecord(uri=f"lorimer:{sha256}", sha256=sha256, rows=6)
    version = lab.registry.publish("letters", tmp_path / "again", profile=lab.base.profile, dataset=record)
    assert [len(stored_splits(lab.registry, version).train), len(usable_corrections(lab.registry, asked()))] == [3, 2]
    done = forget(lab.registry, "ada")
    assert [(each.versions, each.rows) for each in done.remains] == [((version.name,), 2)]
    splits = stored_splits(lab.registry, version)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [2, 0, 2]
    assert [each.request_id for each in usable_corrections(lab.registry, asked())] == ["of-bob"]
    assert forget(lab.registry, "ada").remains == done.remains, "and that is told whenever it is asked"
    assert forget(lab.registry, "bob").remains[0].rows == 2


def asked() -> DriftJob:
    return DriftJob(kind="drift-retrain", adapter="letters", parent="", episode="")


def test_a_label_needs_several_people(lab: Lab, champion: Version, letter_spec: Spec) -> None:
    capture(lab, champion, "digits", "Digits", 3)
    capture(lab, champion, "digits", "what is this", 2)
    captures = read_captures(lab.registry.store, "default", "letters")
    data = msgspec.structs.replace(letter_spec.data, labels={"v": "v", "s": "s"})
    labelled = msgspec.structs.replace(letter_spec, data=data)
    assert set(challenger_spec(labelled, champion, captures).data.labels) == {"v", "s", "Digits"}


def test_nothing_held_out_is_learned_from() -> None:
    def rows(name: str, count: int) -> tuple[Example, ...]:
        return tuple(Example((Message("user", f"{name} {i}"), Message("assistant", "x"))) for i in range(count))

    old = Splits(rows("train", 200), rows("val", 10), rows("test", 20))
    new = [*rows("new", 50), *rows("test", 5), *rows("train", 5)]
    splits, new_test, learn_from = mix(old, new, seed=0)
    held, tested = ({row.key for row in rows} for rows in ((*splits.test, *splits.val), splits.test))
    assert not held & {row.key for row in learn_from}
    assert {row.key for row in (*new_test, *old.test)} == tested
    assert len(new_test) == 22
    assert splits.num_rows == 230 + 50


def test_its_gates_keep_the_owners_limits(letter_spec: Spec) -> None:
    gates = challenger_gates(letter_spec)
    assert gates["test/accuracy"] == Gate(min=0.9, vs="parent", max_drop=0.03)
    assert gates["new/accuracy"].vs == "parent"
    sft = msgspec.structs.replace(letter_spec, job=msgspec.structs.replace(letter_spec.job, task="sft"), gates={})
    assert set(challenger_gates(sft)) == {"test/nll", "new/nll"}

"""`retrain`: from a drift episode to a challenger that must beat the champion on the new without losing the old.

    stored dataset of the parent --- replay --.
                                              |--> warm start from the parent --> measured on `test` (the parent's
    corrections --- 60 % ---------------------'    test rows) and on `new` (the 40 % it never saw)

Knows captures and the job that asks; the gateway, the monitor and the worker are strangers.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import Progress

from registry.adapters import Registry, Version
from registry.captures import Captured, read_captures
from registry.captures.erasures import Erasures
from registry.datasets import Datasets
from registry.errors import Conflict, Invalid, Refused
from registry.jobs import Job
from registry.names import DEFAULT_ALIAS
from registry.settings import load_settings
from serving.base import Base
from trainer.candidate import SPEC_FILE, Candidate, Champion, Outcome, Workplace, champion_of
from trainer.dataset import Example, Splits, Verbaliser, hold_out, normalise, read_splits
from trainer.evaluate import Runner
from trainer.publication import Release, published_for
from trainer.reporting import Report
from trainer.rows import ROLES, Message
from trainer.run import gates_of, read_spec, reporter, verbaliser_of
from trainer.spec import Gate, Spec

KIND = "drift-retrain"
NEW_TEST_SHARE = 0.4
NEW_VAL_SHARE = 0.1
MIN_NEW_TEST = 8
REPLAY_PER_NEW = 3
MIN_REPLAY = 64
MAX_DROP = 0.03
"""What the challenger may lose on the parent's own test set."""
STRICTLY = 1e-6
LR_SCALE, EPOCHS = 0.5, 2
"""A warm start needs less of both."""
MIN_LABEL_USES = 3
"""A correction that names an unknown label makes a new one only when people agree on it."""


class DriftJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor files. `request_ids` are the examples it admitted; empty admits all since `since`."""

    kind: str
    adapter: str
    parent: str
    episode: str
    since: float = 0.0
    examples: int = 0
    request_ids: list[str] = []


def retrain(
    job: Mapping[str, Any],
    registry: Registry,
    base: Base,
    engine: Runner,
    progress: Progress | Report | None = None,
    *,
    home: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a challenger for a drift job, anywhere; what `challenge` does where it stands."""
    place = Workplace(registry, base, engine, home or load_settings().cache_path(), reporter(progress), stop)
    return challenge(read_job(job), place)


def work(job: Job, place: Workplace) -> dict[str, Any]:
    """A drift job's result. To have lost is one too; to have been published before is not done again."""
    asked = read_job(job.spec)
    done = published_for(place.registry, asked.adapter, asked.episode)
    if done is not None:
        live = place.registry.state(asked.adapter).aliases.get(DEFAULT_ALIAS) == done.digest
        return {"promoted": live, "digest": done.digest, "version": done.number, "reasons": ["published before"]}
    return told(challenge(asked, place))


def told(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a job's result."""
    version = outcome.version
    return {
        "promoted": version is not None,
        "digest": version.digest if version else None,
        "version": version.number if version else None,
        "reasons": list(outcome.verdict.reasons if version else outcome.verdict.failures),
    }


def challenge(asked: DriftJob, place: Workplace) -> Outcome:
    """Train a challenger; `Outcome.version` is set when it won and `prod` now means it.

    Conflict when `prod` no longer means the parent.
    """
    registry = place.registry
    parent = registry.resolve(f"{asked.adapter}@{asked.parent}")
    place.report("reading corrections", 0, 1, "")
    champion = _current(place, parent)
    corrections = usable_corrections(registry, asked)
    spec = challenger_spec(read_spec(champion.directory / SPEC_FILE), parent, corrections)
    new = new_examples(corrections, verbaliser_of(spec))
    old = stored_splits(registry, parent)
    splits, new_test, learn_from = mix(old, new, seed=spec.job.seed)
    place.report("reading corrections", 1, 1, f"{len(new)} usable, {len(new_test)} of them held out")
    candidate = Candidate(place, spec, splits, verbaliser_of(spec), champion=champion, learn_from=learn_from)
    release = Release(
        aliases={DEFAULT_ALIAS: parent.digest}, trigger=asked.episode, reason=f"drift episode {asked.episode}"
    )
    return candidate.finish({"test": old.test, "new": new_test}, challenger_gates(spec), release)


def read_job(spec: Mapping[str, Any]) -> DriftJob:
    try:
        return msgspec.convert(dict(spec), DriftJob)
    except msgspec.ValidationError as error:
        raise Invalid(f"not a drift job: {error}", param="spec") from error


def usable_corrections(registry: Registry, asked: DriftJob) -> list[Captured]:
    """The captures the job admits that carry a correction, oldest first."""
    captures = read_captures(registry.store, registry.tenant, asked.adapter, asked.since - 60.0)
    admitted = set(asked.request_ids)
    return [
        capture
        for capture in captures
        if (capture.correction or "").strip() and (capture.request_id in admitted or not admitted)
    ]


def new_examples(corrections: Sequence[Captured], verbaliser: Verbaliser | None) -> list[Example]:
    """Corrected conversations as rows, each prompt once, with their provenance; the latest word on a prompt counts."""
    rows: dict[str, Example] = {}
    for capture in corrections:
        messages = [message for message in capture.messages if message.get("role") in ROLES]
        if not messages or not all(isinstance(m.get("content"), str) and m["content"].strip() for m in messages):
            continue
        prompt = tuple(Message(message["role"], message["content"]) for message in messages)
        answer = (capture.correction or "").strip()
        label = None
        if verbaliser is not None:
            if (label := verbaliser.read(answer)) is None:
                continue
            answer = verbaliser.say(label)
        meta = {"source": "feedback", "request_id": capture.request_id}
        row = Example((*prompt, Message("assistant", answer)), label, meta)
        rows[row.prompt_key] = row
    return list(rows.values())


def stored_splits(registry: Registry, version: Version) -> Splits:
    """The rows the parent was made from, but for those that came from people who are forgotten since."""
    if version.manifest.dataset is None:
        raise Refused(f"{version.name} names no dataset to replay", hint="only versions made by the trainer retrain")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "dataset.jsonl"
        Datasets(registry.store, registry.tenant).fetch(version.manifest.dataset.sha256, path)
        splits = read_splits(path)
    forgotten = Erasures(registry.store, registry.tenant).request_ids()
    if not forgotten:
        return splits

    def remembered(rows: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(row for row in rows if row.meta.get("request_id") not in forgotten)

    return Splits(train=remembered(splits.train), val=remembered(splits.val), test=remembered(splits.test))


def mix(old: Splits, new: Sequence[Example], *, seed: int) -> tuple[Splits, list[Example], list[Example]]:
    """(all rows in their splits, the new rows held out, the rows to learn from). Nothing held out is learned from."""
    held = {row.prompt_key for row in (*old.test, *old.val)}
    fresh = [row for row in new if row.prompt_key not in held]
    kept, new_test = hold_out(fresh, NEW_TEST_SHARE, by="hash", seed=seed)
    if len(new_test) < MIN_NEW_TEST or not kept:
        raise Refused(
            f"{len(fresh)} usable corrections leave {len(new_test)} to test with; {MIN_NEW_TEST} are needed",
            hint="collect more feedback, or raise monitor.min_examples",
        )
    learned, new_val = hold_out(kept, NEW_VAL_SHARE, by="hash", seed=seed + 1)
    taken = {row.prompt_key for row in fresh}
    replay = [row for row in old.train if row.prompt_key not in taken]
    sampled = random.Random(seed).sample(replay, min(len(replay), max(MIN_REPLAY, REPLAY_PER_NEW * len(learned))))
    everything = Splits(
        train=(*replay, *learned),
        val=tuple(sorted((*old.val, *new_val), key=lambda row: row.key)),
        test=(*old.test, *new_test),
    )
    return everything, new_test, [*sampled, *learned]


def challenger_spec(spec: Spec, parent: Version, corrections: Sequence[Captured]) -> Spec:
    """The parent's spec, gentler, aimed at `prod`; it knows the labels that people have begun to use."""
    replace = msgspec.structs.replace
    train = replace(spec.train, lr=spec.train.lr * LR_SCALE, epochs=min(spec.train.epochs, EPOCHS))
    return replace(
        spec,
        job=replace(spec.job, parent=f"{parent.adapter}@{parent.digest}"),
        data=replace(spec.data, labels=_labels(spec.data.labels, corrections)) if spec.data.labels else spec.data,
        train=train,
        publish=replace(spec.publish, alias=DEFAULT_ALIAS),
    )


def challenger_gates(spec: Spec) -> dict[str, Gate]:
    """The owner's absolute limits, and: strictly better on the new, hardly worse on the old."""
    metric = "accuracy" if spec.job.task == "classify" else "nll"
    gates = {
        name: Gate(min=gate.min, max=gate.max)
        for name, gate in gates_of(spec).items()
        if gate.min is not None or gate.max is not None
    }
    old = gates.get(f"test/{metric}", Gate())
    return gates | {
        f"test/{metric}": msgspec.structs.replace(old, vs="parent", max_drop=MAX_DROP),
        f"new/{metric}": Gate(vs="parent", min_gain=STRICTLY),
    }


def _labels(known: Mapping[str, str], corrections: Sequence[Captured]) -> dict[str, str]:
    """Known labels, and those that several corrections agree on."""
    verbaliser = Verbaliser(known)
    unknown = [said for capture in corrections if verbaliser.read(said := (capture.correction or "").strip()) is None]
    spelling = {normalise(said): said for said in reversed(unknown)}
    uses = Counter(normalise(said) for said in unknown)
    return {**known, **{spelling[word]: spelling[word] for word, count in uses.items() if count >= MIN_LABEL_USES}}


def _current(place: Workplace, parent: Version) -> Champion:
    """The parent, as long as it is still what production serves."""
    actual = place.registry.state(parent.adapter).aliases.get(DEFAULT_ALIAS)
    if actual != parent.digest:
        raise Conflict(f"{parent.adapter}@{DEFAULT_ALIAS} is no longer {parent.name}", actual=actual)
    return champion_of(parent, place)

"""`tune`: from a fine-tuning job to a version published under its name, or to the reason why there is none.

    training_file ---- every line checked ---- 80 % train | 10 % val | 10 % test
    validation_file -- every line checked ------------------ val, instead of those
    parent ----------- warm start, and to be no worse than; without one that is the base

Knows uploaded files and the job that asks; the gateway and the worker are strangers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from registry.adapters import Registry, Version
from registry.cache import AdapterCache
from registry.changes import Change, move
from registry.errors import Invalid, NotFound, Refused, Unavailable
from registry.files import Files
from registry.jobs import Job
from registry.names import DEFAULT_ALIAS
from registry.ops import Op
from registry.tuning import KIND, TuneJob, read_tune_job
from registry.versions import AdapterState
from trainer.candidate import Candidate, Champion, Outcome, Workplace, champion_of
from trainer.dataset import example_of, load_splits
from trainer.desks import Desks
from trainer.evidence import Evidence, read_evidence
from trainer.extent import split_of, train_of
from trainer.publication import Release, published_for
from trainer.rendering import length_of, render_row
from trainer.rows import Row, read_rows
from trainer.run import pinned
from trainer.spec import Data, Gate, Method, Publish, Spec, Train
from trainer.spec import Job as Identity
from trainer.starting import instructed_as, method_of

__all__ = ["KIND", "tune", "work"]

STAGING = "staging"
TRAINING, VALIDATION = "training_file", "validation_file"
"""The fields that name them, the files on the desk, and how a bad line is told of."""
MAX_LEN = 2048
"""Most tokens of a row, where the base does not end before."""
ROOM = 32
"""Of the base's context, left for an answer that is longer than the row's own when the row is asked about."""
LINES_PER_REPORT = 256


class GateFailed(Refused):
    """The candidate is no better than what is there; its reasons are the verdict's."""

    code = "gate_failed"


def work(job: Job, place: Workplace) -> dict[str, Any]:
    """A fine-tuning job's result. To have been published before is not done again; to be refused by a gate fails."""
    asked = read_tune_job(job.spec)
    registry = place.registry
    if (done := published_for(registry, asked.adapter, job.key)) is not None:
        return told(registry, done, read_evidence(AdapterCache(place.home, registry).path(done)))
    outcome = tune(asked, job.key, place)
    if outcome.version is None:
        raise GateFailed("; ".join(outcome.verdict.failures), hint="more rows, other rows, or other hyperparameters")
    return told(registry, outcome.version, outcome.evidence)


def told(registry: Registry, version: Version, evidence: Evidence) -> dict[str, Any]:
    """A published version as a job's result; the losses are those of the step whose parameters were kept."""
    training = evidence.training
    losses = {"train_loss": training.losses[training.best_step - 1]}  # the last one where nothing was validated
    if (val_loss := training.validations.get(str(training.best_step))) is not None:
        losses["val_loss"] = val_loss
    return {
        "promoted": registry.state(version.adapter).aliases.get(DEFAULT_ALIAS) == version.digest,
        "digest": version.digest,
        "version": version.number,
        "reasons": list(evidence.reasons),
        "trained_tokens": training.tokens,
        "steps": training.steps,
        "metrics": {**version.manifest.metrics, **losses},
    }


def tune(asked: TuneJob, key: str, place: Workplace) -> Outcome:
    """Fetch, check, train, measure, judge, publish. Everything that must survive a crash lies on the job's desk."""
    registry = place.registry
    desk = Desks(place.home, registry.tenant).of(key)
    place.report("reading data", 0, 1)
    champion = None if asked.parent is None else champion_of(registry.resolve(asked.parent), place)
    max_len = min(MAX_LEN, place.base.profile.context_length - ROOM)
    data = fetch(asked, Files(registry.store, registry.tenant, registry.clock), desk)
    try:
        lengths, labels = measure(data, place, max_len)
        data = msgspec.structs.replace(data, split=split_of(len(lengths)))
        if champion is not None and labels is not None:
            data = instructed_as(champion, data, labels)
        splits, verbaliser = load_splits(data, classify=labels is not None, seed=asked.seed)
    except Invalid as error:
        raise bad_file(error, desk) from error
    dropped = sum(splits.dropped.values())
    place.report("reading data", 1, 1, f"{splits.num_rows} rows" + (f", {dropped} left out" if dropped else ""))
    share = len(splits.train) / len(lengths)
    train = train_of(asked, lengths, share, max_len=max_len, is_warm=champion is not None)
    spec = pinned(spec_of(asked, data, train, champion, is_labelled=labels is not None), champion, verbaliser)
    candidate = Candidate(replace(place, home=desk), spec, splits, verbaliser, champion=champion)
    return candidate.finish({"test": splits.test}, spec.gates, release_of(key))


def fetch(asked: TuneJob, files: Files, desk: Path) -> Data:
    """The files put on the desk, each under the name of the field that asks for it."""
    found: dict[str, str] = {}
    for field, id in ((TRAINING, asked.training_file), (VALIDATION, asked.validation_file)):
        if id is None:
            continue
        try:
            files.fetch(id, desk / field)
        except NotFound as error:
            said = f"{field}: {error.message}"
            raise Invalid(said, hint="upload it again", param=field, code="file_not_found") from error
        found[field] = str(desk / field)
    return Data(train=found[TRAINING], val=found.get(VALIDATION))


def measure(data: Data, place: Workplace, max_len: int) -> tuple[list[int], set[str] | None]:
    """(tokens of every row to train on, the labels where every row is a text and its label). Invalid names a line."""
    training = read_rows(Path(data.train))
    rows = [*training, *(() if data.val is None else read_rows(Path(data.val)))]
    lengths: list[int] = []
    for done, row in enumerate(rows):
        if place.stop():
            raise Unavailable("the reading of the files was stopped")
        if done % LINES_PER_REPORT == 0:
            place.report("reading data", done, len(rows))
        lengths.append(_length(row, data, place, max_len))
    labels = {row.label for row in rows if row.text and row.label is not None}
    return lengths[: len(training)], labels if all(row.text for row in rows) else None


def _length(row: Row, data: Data, place: Workplace, max_len: int) -> int:
    """Of a row that fits; only such a one is rendered as training will."""
    try:
        example = example_of(row, data, None)
        if (length := length_of(place.base, example)) <= max_len:
            render_row(place.base, example)
    except Invalid as error:
        raise Invalid(f"{row.where}: {error.message}", hint=error.hint) from error
    if length > max_len:
        raise Invalid(f"{row.where}: the row has {length} tokens; {max_len} are the most", hint="shorten or split it")
    return length


def bad_file(error: Invalid, desk: Path) -> Invalid:
    """The same complaint as whoever uploaded the file can read it: by the field that names it, not by our path."""
    said = error.message.replace(f"{desk}/", "")
    field = VALIDATION if VALIDATION in said else TRAINING
    return Invalid(said, hint=error.hint, param=field, code="invalid_training_file")


def spec_of(asked: TuneJob, data: Data, train: Train, champion: Champion | None, *, is_labelled: bool) -> Spec:
    """What is done, in the trainer's own words, with the files under the ids that they are known by."""
    metric = "test/accuracy" if is_labelled else "test/nll"
    return Spec(
        job=Identity(name=asked.adapter, task="classify" if is_labelled else "sft", seed=asked.seed),
        method=Method() if champion is None else method_of(champion),
        data=msgspec.structs.replace(data, train=asked.training_file, val=asked.validation_file),
        train=train,
        gates={metric: Gate(vs="base" if champion is None else "parent")},
        publish=Publish(alias=STAGING),
    )


def release_of(key: str) -> Release:
    """`staging` wherever that stands; production only where the name has never been anything there."""
    return Release(
        aliases={STAGING: UNSET},
        also=lambda digest: [_first_in_production(digest)],
        trigger=key,
        reason=f"fine-tuning job {key}",
    )


def _first_in_production(digest: str) -> Change:
    """Decided on the very state that the publication replaces. Under rules, what is production is for their owners."""

    def decide(state: AdapterState) -> Sequence[Op]:
        was_there = DEFAULT_ALIAS in state.aliases or any(each.alias == DEFAULT_ALIAS for each in state.alias_history)
        return [] if was_there or state.rules is not None else move(DEFAULT_ALIAS, digest)(state)

    return decide

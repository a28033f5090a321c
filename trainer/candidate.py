"""One adapter on its way: learned, measured, judged, published, in a directory from which a killed run goes on.

    <directory>/
        spec.json  dataset.jsonl    what is made, from which rows
        checkpoints/                the lane's state
        version/                    the finished files; appears whole, and only if the gates let it pass
        refused/                    the same, where they did not

Knows neither where the rows came from (`run`, `retrain`) nor who pays for the time (`worker`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from monitoring.reference import FILE_NAME as REFERENCE_FILE
from registry.adapters import Registry, Version
from registry.cache import AdapterCache
from registry.canonical import canonical, sha256, sha256_file
from registry.errors import Refused, Unavailable
from serving.adapter import LoadedAdapter
from serving.base import Base
from trainer.checkpoint import Checkpoints
from trainer.dataset import Example, Splits, Verbaliser, fingerprint, write_splits
from trainer.evaluate import Evaluator, Runner
from trainer.evidence import DataCounts, Evidence, Measurements, Training, read_evidence, write_evidence
from trainer.gate import Verdict, judge
from trainer.lane import Lane
from trainer.profile import profile_input
from trainer.publication import Release, code_version, publish, save_adapter, starting_tensors
from trainer.rendering import render_rows
from trainer.reporting import Report
from trainer.spec import Gate, Spec

SPEC_FILE = "spec.json"
DATASET_FILE = "dataset.jsonl"


@dataclass(frozen=True, eq=False)
class Workplace:
    """Where training happens: the base and engine it shares with serving, and a directory for what must survive."""

    registry: Registry
    base: Base
    engine: Runner
    home: Path
    report: Report
    stop: Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Champion:
    """The version a candidate starts from and is compared with."""

    version: Version
    directory: Path


@dataclass(frozen=True)
class Outcome:
    """`version` is set when it was published; `evidence.measured` has every number behind the verdict."""

    version: Version | None
    verdict: Verdict
    evidence: Evidence
    directory: Path


class Candidate:
    def __init__(
        self,
        place: Workplace,
        spec: Spec,
        splits: Splits,
        verbaliser: Verbaliser | None,
        *,
        champion: Champion | None = None,
        learn_from: Sequence[Example] | None = None,
    ) -> None:
        """`learn_from` are the rows to train on, where that is not all of `splits.train`."""
        self._place = place
        self.spec = spec
        self._splits = splits
        self._verbaliser = verbaliser
        self._champion = champion
        self._learn_from = splits.train if learn_from is None else learn_from
        self.directory = self._enter()

    def learn(self) -> Lane:
        """Train to the end, from the newest checkpoint if there is one. Unavailable when told to stop before."""
        place, train = self._place, self.spec.train
        rows = render_rows(place.base, self._learn_from, train.max_len).rows
        val_rows = render_rows(place.base, self._splits.val, train.max_len).rows
        lane = Lane(
            place.base.module_tree(),
            self.spec.method,
            train,
            rows,
            val_rows,
            seed=self.spec.job.seed,
            start=None if self._champion is None else starting_tensors(self._champion.directory),
        )
        checkpoints = Checkpoints(self.directory / "checkpoints")
        if (newest := checkpoints.newest()) is not None:
            lane.restore(newest.tensors, newest.numbers)
        while not lane.finished:
            told = lane.step()
            place.report("training", told.step, told.total, f"loss {told.loss:.3f}", _numbers(lane))
            if place.stop() or lane.finished or told.step % train.checkpoint_every == 0:
                checkpoints.save(told.step, *lane.state())
            if place.stop():
                raise Unavailable(
                    f"training of {self.spec.job.name} was stopped at step {told.step} of {told.total}",
                    hint=f"go on with: lorimer train resume {self.directory}",
                )
        return lane

    def finish(self, sets: Mapping[str, Sequence[Example]], gates: Mapping[str, Gate], release: Release) -> Outcome:
        """Everything after the rows are chosen. A directory that was finished before is published as it stands."""
        done = self.directory / "version"
        if not self._is_current(done):
            shutil.rmtree(done, ignore_errors=True)
            lane = self.learn()
            staging = self._staging()
            save_adapter(lane, self._place.base.profile, staging)
            measured = self._measure(staging, sets)
            verdict = judge(measured, gates)
            self._describe(staging, lane, {name: fingerprint(rows) for name, rows in sets.items()}, measured, verdict)
            if not verdict.passed:
                done = self.directory / "refused"
                shutil.rmtree(done, ignore_errors=True)
            staging.rename(done)
        evidence = read_evidence(done)
        verdict = Verdict(passed=evidence.passed, reasons=evidence.reasons)
        if not verdict.passed:
            return Outcome(None, verdict, evidence, done)
        version = self._publish(done, release)
        shutil.rmtree(self.directory, ignore_errors=True)
        return Outcome(version, verdict, evidence, done)

    def _publish(self, done: Path, release: Release) -> Version:
        place = self._place
        place.report("publishing", 0, 1)
        if place.stop():
            raise Unavailable(
                f"{self.spec.job.name} was stopped before it was published",
                hint=f"go on with: lorimer train resume {self.directory}",
            )
        return publish(
            place.registry,
            place.base.profile,
            self.spec,
            done,
            self.directory / DATASET_FILE,
            parent=self._champion.version if self._champion else None,
            release=release,
            progress=lambda sent, total: place.report("publishing", sent, total),
        )

    def _enter(self) -> Path:
        """The directory of exactly this training, data, base and parent: another one never finds its checkpoints."""
        home = self._place.home / "runs"
        try:
            home.mkdir(parents=True, exist_ok=True)
            draft = home / f".dataset-{os.getpid()}-{self.spec.job.name}.jsonl"
            write_splits(self._splits, draft)
            what = {
                "spec": msgspec.to_builtins((self.spec.job, self.spec.method, self.spec.train)),
                "dataset": sha256_file(draft),
                "learn_from": sha256("".join(row.key for row in self._learn_from).encode()),
                "base": msgspec.to_builtins(self._place.base.profile.identity),
                "parent": self._champion.version.digest if self._champion else None,
            }
            directory = home / f"{self.spec.job.name}-{sha256(canonical(what))[:16]}"
            directory.mkdir(exist_ok=True)
            draft.rename(directory / DATASET_FILE)
            (directory / SPEC_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self.spec), indent=1))
        except OSError as error:
            raise Unavailable(f"cannot write to {home}: {error.strerror or error}") from error
        return directory

    def _is_current(self, done: Path) -> bool:
        """Whether these files were made for this very spec: gates or policy may have changed since."""
        file = done / SPEC_FILE
        return file.exists() and file.read_bytes() == (self.directory / SPEC_FILE).read_bytes()

    def _staging(self) -> Path:
        staging = self.directory / ".staging"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        return staging

    def _measure(self, files: Path, sets: Mapping[str, Sequence[Example]]) -> Measurements:
        place = self._place
        roles: dict[str, LoadedAdapter | None] = {
            "candidate": LoadedAdapter.from_directory(files, place.base),
            "base": None,
        }
        if self._champion is not None:
            version = self._champion.version
            roles["parent"] = LoadedAdapter.from_directory(self._champion.directory, place.base, version.digest)
        note = f"{len(roles)} models side by side"
        place.report("evaluating", 0, sum(len(rows) for rows in sets.values()) * len(roles), note)
        evaluator = Evaluator(
            place.base,
            place.engine,
            self._verbaliser,
            lambda done, total: place.report("evaluating", done, total, note),
        )
        return evaluator.measure(sets, roles)

    def _describe(
        self, files: Path, lane: Lane, suites: dict[str, str], measured: Measurements, verdict: Verdict
    ) -> None:
        """Put spec, evidence and the profile of normal input beside the adapter."""
        place, splits = self._place, self._splits
        if verdict.passed:
            self._profile(files)
        shutil.copyfile(self.directory / SPEC_FILE, files / SPEC_FILE)
        write_evidence(
            Evidence(
                spec=msgspec.to_builtins(self.spec),
                base=msgspec.to_builtins(place.base.profile.identity),
                parent=self._champion.version.digest if self._champion else None,
                data=DataCounts(
                    sha256=sha256_file(self.directory / DATASET_FILE), rows=splits.num_rows, counts=splits.counts()
                ),
                training=_training(lane),
                measured=measured,
                suites=suites,
                passed=verdict.passed,
                reasons=verdict.reasons,
                code=code_version(),
            ),
            files,
        )

    def _profile(self, files: Path) -> None:
        """The reference that live traffic will be compared with, where there are rows enough for one."""
        place, splits = self._place, self._splits
        place.report("profiling input", 0, 1, "")
        rows = [*splits.train, *splits.val, *splits.test]
        reference = profile_input(place.registry.store, place.base, rows, seed=self.spec.job.seed)
        if reference is not None:
            (files / REFERENCE_FILE).write_bytes(reference.to_bytes())
        place.report("profiling input", 1, 1, "" if reference else "too few sessions to watch for drift")


def find_champion(spec: Spec, place: Workplace) -> Champion | None:
    """The parent that the spec names, its files verified."""
    if spec.job.parent is None:
        return None
    return champion_of(place.registry.resolve(spec.job.parent), place)


def champion_of(version: Version, place: Workplace) -> Champion:
    """A version to start from and to be measured against; Refused when it belongs to another base."""
    if version.manifest.base.weights_sha256 != place.base.profile.identity.weights_sha256:
        raise Refused(f"{version.name} belongs to base {version.manifest.base.id}, not to the one loaded")
    return Champion(version, AdapterCache(place.home, place.registry).path(version))


def check_base(spec: Spec, base: Base) -> None:
    """Refused when the spec was written for another base than the one that is loaded."""
    if spec.job.base is not None and spec.job.base not in (base.profile.identity.id, *base.profile.names):
        raise Refused(
            f"job.base is {spec.job.base}, but the base that is loaded is {base.profile.identity.id}",
            hint=f"set LORIMER_BASE={spec.job.base}, or leave job.base out",
        )


def _numbers(lane: Lane) -> dict[str, float]:
    """Where a lane stands; the validation loss is that of its last look."""
    told = lane.progress
    numbers: dict[str, float] = {"train_loss": told.losses[-1], "tokens": told.tokens}
    if told.validations:
        numbers["val_loss"] = [*told.validations.values()][-1]
    return numbers


def _training(lane: Lane) -> Training:
    told = lane.progress
    return Training(
        steps=told.steps,
        tokens=told.tokens,
        best_step=told.best_step,
        losses=tuple(told.losses),
        validations=told.validations,
    )

"""`train`: from a spec to a published version. Reads the rows; `candidate` does the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import UNSET
from rich.progress import Progress

from registry.adapters import Registry
from registry.errors import Conflict, Corrupt, NotFound
from registry.policy import Policy
from registry.settings import load_settings
from serving.base import Base
from trainer.candidate import (
    DATASET_FILE,
    SPEC_FILE,
    Candidate,
    Champion,
    Outcome,
    Workplace,
    check_base,
    find_champion,
)
from trainer.dataset import Verbaliser, load_splits, read_splits
from trainer.evaluate import Runner
from trainer.publication import Release
from trainer.reporting import Report, on_bar, silent
from trainer.spec import Gate, Spec

__all__ = ["Outcome", "resume", "train"]

DEFAULT_GATES = {
    "classify": {"test/accuracy": Gate(vs="base")},
    "sft": {"test/nll": Gate(vs="base")},
}
"""Without gates of its own, an adapter must at least not be worse than the base alone."""


def train(
    spec: Spec,
    registry: Registry,
    base: Base,
    engine: Runner,
    progress: Progress | Report | None = None,
    *,
    home: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Dataset -> lane -> evaluate (candidate, parent and base in the same batches) -> gate -> publish.

    `home` holds the run until it is published (default: the cache directory). When `stop` turns true the run
    checkpoints and raises Unavailable; calling again with the same spec and data goes on where it was.
    """
    place = Workplace(registry, base, engine, home or load_settings().cache_path(), reporter(progress), stop)
    check_base(spec, base)
    champion = find_champion(spec, place)
    place.report("reading data", 0, 1, "")
    splits, verbaliser = load_splits(spec.data, classify=spec.job.task == "classify", seed=spec.job.seed)
    place.report("reading data", 1, 1, f"{splits.num_rows} rows")
    candidate = Candidate(place, pinned(spec, champion, verbaliser), splits, verbaliser, champion=champion)
    return candidate.finish({"test": splits.test}, gates_of(spec), release_of(spec))


def resume(
    directory: Path,
    registry: Registry,
    base: Base,
    engine: Runner,
    progress: Progress | Report | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Go on with a run from its directory, without the original files."""
    spec = read_spec(directory / SPEC_FILE)
    splits = read_splits(directory / DATASET_FILE)
    place = Workplace(registry, base, engine, directory.resolve().parent.parent, reporter(progress), stop)
    check_base(spec, base)
    candidate = Candidate(place, spec, splits, verbaliser_of(spec), champion=find_champion(spec, place))
    if candidate.directory != directory.resolve():
        raise Conflict(
            f"the run in {directory} belongs to another base or to other data", actual=str(candidate.directory)
        )
    return candidate.finish({"test": splits.test}, gates_of(spec), release_of(spec))


def pinned(spec: Spec, champion: Champion | None, verbaliser: Verbaliser | None) -> Spec:
    """The spec with what was looked up written into it: the parent's digest, the labels found in the data."""
    replace = msgspec.structs.replace
    if verbaliser is not None:
        spec = replace(spec, data=replace(spec.data, labels=dict(verbaliser.words)))
    if champion is not None:
        version = champion.version
        spec = replace(spec, job=replace(spec.job, parent=f"{version.adapter}@{version.digest}"))
    return spec


def read_spec(path: Path) -> Spec:
    """The spec a run or a version carries."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spec)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path.name} in {path.parent}", hint="is this the directory of a run?") from error
    except msgspec.DecodeError as error:
        raise Corrupt(f"{path} is not a spec: {error}") from error


def verbaliser_of(spec: Spec) -> Verbaliser | None:
    return Verbaliser(spec.data.labels) if spec.job.task == "classify" else None


def gates_of(spec: Spec) -> dict[str, Gate]:
    return spec.gates or DEFAULT_GATES[spec.job.task]


def release_of(spec: Spec) -> Release:
    """Its alias, wherever that stands now, and its policy."""
    aliases = {} if spec.publish.alias is None else {spec.publish.alias: UNSET}
    return Release(aliases=aliases, policy=Policy(**msgspec.to_builtins(spec.monitor)), reason="trained")


def reporter(progress: Progress | Report | None) -> Report:
    if progress is None:
        return silent
    return on_bar(progress) if isinstance(progress, Progress) else progress

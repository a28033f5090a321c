"""What to train, as read from TOML: job, method, data, train, gates, publish, monitor. Reads no data.

    [job]      name = "bbc-topic"   task = "classify"
    [data]     train = "bbc.jsonl"  instruction = "Name the topic of the text in one word."
    [gates]    "test/accuracy" = { min = 0.85, vs = "base" }
    [publish]  alias = "prod"

Unknown keys are refused by name. Paths are relative to the file that names them.
"""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from registry.errors import Invalid, NotFound

Fraction = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Struct = type[msgspec.Struct]
Count = Annotated[int, Meta(ge=1)]


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who this adapter is. `parent` is warm-started from, compared with, and recorded."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    task: Literal["sft", "classify"] = "sft"
    base: str | None = None
    parent: str | None = None
    seed: int = 0


class Method(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which parameters are trained."""

    kind: Literal["lora"] = "lora"
    r: Annotated[int, Meta(ge=1, le=256)] = 16
    alpha: Positive = 32.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.05


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fractions held out when no `val` or `test` file is named. Rows of one `meta.group` stay together."""

    by: Literal["group", "hash"] = "group"
    val: Fraction = 0.1
    test: Fraction = 0.1


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`labels` maps each label to the words the model answers with; empty = every label found, word for word."""

    train: str
    val: str | None = None
    test: str | None = None
    split: Split = Split()
    dedup: Literal["exact", "off"] = "exact"
    instruction: str = ""
    labels: dict[str, str] = {}


class EarlyStop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Validate every so many steps; stop after `patience` validations without a new best; keep the best."""

    metric: Literal["val/loss"] = "val/loss"
    patience: Count = 3
    every: Count = 20
    rows: Count = 64


class Train(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lr: Positive = 1e-3
    epochs: Count = 3
    steps: Count | None = None
    tokens_per_step: Annotated[int, Meta(ge=16)] = 1024
    max_len: Annotated[int, Meta(ge=8)] = 512
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    warmup: Fraction = 0.1
    clip: Positive = 1.0
    early_stop: EarlyStop | None = EarlyStop()
    checkpoint_every: Count = 10


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions on one metric. With `vs`, the candidate is measured against that model's value in the same run."""

    min: float | None = None
    max: float | None = None
    vs: Literal["parent", "base"] | None = None
    max_drop: Annotated[float, Meta(ge=0)] | None = None
    min_gain: Annotated[float, Meta(ge=0)] | None = None


class Publish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alias: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] | None = "staging"


class Monitor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter's policy: keep text for retraining, and what drift may start."""

    capture: bool = False
    retrain: Literal["auto", "approve", "off"] = "auto"
    min_examples: Count = 32
    cooldown_s: Annotated[float, Meta(ge=0)] = 3600.0
    harm_required: bool = False


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    job: Job
    data: Data
    method: Method = Method()
    train: Train = Train()
    gates: dict[str, Gate] = {}
    publish: Publish = Publish()
    monitor: Monitor = Monitor()


def load_spec(path: Path) -> Spec:
    """Read a TOML spec; data paths become absolute, so that the run may be resumed from anywhere."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"spec {path} does not exist") from error
    except OSError as error:
        raise Invalid(f"spec {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: not valid TOML: {error}") from error
    spec = parse_spec(values, source=str(path))
    data = spec.data
    located = {name: str(path.parent.resolve() / file) for name, file in _files(data).items()}
    return msgspec.structs.replace(spec, data=msgspec.structs.replace(data, **located))


def parse_spec(values: Mapping[str, Any], *, source: str = "spec") -> Spec:
    """Validate plain values; errors name the key as it is written, for example `train.lr`."""
    _refuse_unknown(values, Spec, source, ())
    try:
        spec = msgspec.convert(values, Spec)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = where.strip("`.") or None
        raise Invalid(f"{source}: {f'{key}: ' if key else ''}{what}", param=key) from error
    _refuse_contradictions(spec, source)
    return spec


def _files(data: Data) -> dict[str, str]:
    return {name: file for name in ("train", "val", "test") if (file := getattr(data, name)) is not None}


def _refuse_contradictions(spec: Spec, source: str) -> None:
    if spec.data.split.val + spec.data.split.test >= 1:
        raise Invalid(f"{source}: data.split leaves nothing to train on", param="data.split", hint="val + test < 1")
    verbalised = list(spec.data.labels.values())
    if len(set(verbalised)) != len(verbalised):
        raise Invalid(f"{source}: data.labels gives two labels the same words", param="data.labels")
    for metric, gate in spec.gates.items():
        if gate == Gate():
            raise Invalid(f"{source}: gates.{metric!r} states no condition", hint="min, max, vs, max_drop or min_gain")


def _refuse_unknown(values: Mapping[str, Any], struct: Struct, source: str, path: tuple[str, ...]) -> None:
    hints = typing.get_type_hints(struct)
    for key, value in values.items():
        name = ".".join((*path, key))
        if key not in hints:
            near = get_close_matches(key, hints, 1)
            where = f"[{'.'.join(path)}]" if path else "the spec"
            hint = f"did you mean {near[0]}?" if near else f"{where} has {', '.join(hints)}"
            raise Invalid(f"{source}: unknown key {name}", hint=hint, param=name)
        if not isinstance(value, Mapping):
            continue
        for nested in _structs(hints[key]):
            _refuse_unknown(value, nested, source, (*path, key))
        for entry in _structs_of_entries(hints[key]):
            for inner, table in value.items():
                if isinstance(table, Mapping):
                    _refuse_unknown(table, entry, source, (*path, key, inner))


def _structs(hint: Any) -> list[Struct]:
    """The struct types among the alternatives of a type hint."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]


def _structs_of_entries(hint: Any) -> list[Struct]:
    return _structs(typing.get_args(hint)[1]) if typing.get_origin(hint) is dict else []

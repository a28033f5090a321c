"""What a training takes over from the version that it starts warm from: its shape, and how it was asked.

Knows files of adapters, no rows and no job.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from registry.adapter_config import AdapterConfig, read_adapter_config
from registry.errors import Refused
from serving.adapter import CONFIG
from trainer.candidate import SPEC_FILE, Champion
from trainer.dataset import normalise
from trainer.run import read_spec
from trainer.spec import Data, Method

_PLAIN = AdapterConfig(peft_type="LORA")
_SHAPE = ("target_modules", "r", "lora_alpha")
_SILENT = ("base_model_name_or_path", "task_type", "init_lora_weights")
"""Nothing that is trained depends on these."""


def method_of(champion: Champion) -> Method:
    """The very shape of the parent; Refused where that is more than plain LoRA, which is all that is trained here."""
    config = read_adapter_config(champion.directory / CONFIG)
    more = {name: getattr(config, name) for name in _PLAIN.__struct_fields__ if name not in (*_SHAPE, *_SILENT)}
    more = {name: value for name, value in more.items() if value and value != getattr(_PLAIN, name)}
    if isinstance(config.target_modules, str):
        more["target_modules"] = config.target_modules
    if more or isinstance(config.target_modules, str):
        raise Refused(
            f"{champion.version.name} cannot be trained on: it has "
            + ", ".join(f"{name} {value!r}" for name, value in more.items()),
            hint="start from the base, or from an adapter of plain LoRA",
        )
    return Method(r=config.r, alpha=config.lora_alpha, targets=config.target_modules)


def instructed_as(champion: Champion, data: Data, labels: Iterable[str]) -> Data:
    """Labelled texts asked about as the parent was taught, answered with its labels and those that are new."""
    if not champion.version.manifest.trainer or not (champion.directory / SPEC_FILE).exists():
        return data
    taught = read_spec(champion.directory / SPEC_FILE).data
    said = {normalise(word) for word in taught.labels.values()}
    new = {label: label for label in sorted(labels) if label not in taught.labels and normalise(label) not in said}
    return msgspec.structs.replace(
        data, instruction=taught.instruction, labels={**taught.labels, **new} if taught.labels else {}
    )

"""Memory and time that one large adapter takes to publish, verify, pull, export and import through the façade.

    python -m benchmarks.registry.large                          1 GB, a directory
    python -m benchmarks.registry.large --store s3://bucket/x    any other store (LORIMER_S3_ENDPOINT, AWS_*)
    python tests/rgw.py -- python -m benchmarks.registry.large --store s3://lorimer/large

Every step runs in a process of its own, whose peak resident memory the kernel tells (VmHWM). Exits 1 beyond the bar.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from registry.adapters import Registry
from registry.exchange.adoption import take_in
from registry.exchange.export import export
from registry.exchange.parcel import open_parcel
from registry.manifest import BaseIdentity, BaseProfile
from registry.settings import load_settings
from registry.store import store_of

BAR_BYTES = 200 << 20
RANK, WIDTH = 256, 8192
NAME = "large"
STEPS = ("publish", "verify", "pull", "export", "import")


def shapes(num_bytes: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Tensors of a LoRA over as many square linears as make up this size."""
    for number in range(max(num_bytes // (RANK * WIDTH * 4 * 2), 1)):
        module = f"base_model.model.layers.{number}.proj"
        yield f"{module}.lora_A.weight", (RANK, WIDTH)
        yield f"{module}.lora_B.weight", (WIDTH, RANK)


def write_folder(folder: Path, num_bytes: int) -> Path:
    """A valid adapter folder of about this size, written piece by piece."""
    folder.mkdir(parents=True)
    tensor_bytes = RANK * WIDTH * 4
    names = list(shapes(num_bytes))
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [at * tensor_bytes, (at + 1) * tensor_bytes]}
        for at, (name, shape) in enumerate(names)
    }
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in names:
            file.write(rng.standard_normal(RANK * WIDTH, dtype=np.float32).tobytes())
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": NAME, "r": RANK, "lora_alpha": RANK,
        "target_modules": ["proj"], "bias": "none",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def profile(num_bytes: int) -> BaseProfile:
    """A base that such an adapter fits."""
    modules = {name.removeprefix("base_model.model.").split(".lora")[0] for name, _ in shapes(num_bytes)}
    identity = BaseIdentity(
        id=NAME, weights_sha256="a" * 64, tokenizer_sha256="b" * 64, template_sha256="c" * 64, shape_sha256="d" * 64
    )
    return BaseProfile(
        identity=identity, names=(NAME,), architecture="LlamaForCausalLM", hidden_size=WIDTH, num_layers=len(modules),
        vocab_size=32, context_length=64, linears=dict.fromkeys(modules, (WIDTH, WIDTH)),
    )  # fmt: skip


def run_step(step: str, url: str, folder: Path, num_bytes: int) -> dict[str, Any]:
    """In this process: what the step took."""
    registry = Registry(store_of(load_settings(), url), actor="benchmark")
    ready, started = peak_bytes(), time.monotonic()
    if step == "publish":
        registry.register_base(profile(num_bytes))
        registry.publish(NAME, folder)
    elif step == "verify":
        registry.verify(NAME)
    elif step == "pull":
        registry.pull(f"{NAME}@v1", folder.with_name("pulled"))
    elif step == "export":
        export(registry, f"{NAME}@v1", folder.with_name("layout"), form="oci")
    else:
        parcel = open_parcel(folder.with_name("layout"), key=None)
        take_in(registry, "imported", parcel, scratch=folder.with_name("scratch"))
    return {"step": step, "seconds": time.monotonic() - started, "ready_bytes": ready, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory this program ever had resident; not what the process was before it became this program."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def measure(url: str, num_bytes: int, scratch: Path) -> list[dict[str, Any]]:
    """Every step in a process of its own; the bytes that came back are compared with those that went."""
    folder = write_folder(scratch / "adapter", num_bytes)
    results = []
    for step in STEPS:
        command = [sys.executable, "-m", __spec__.name, "--store", url, "--bytes", str(num_bytes)]
        done = subprocess.run(
            [*command, "--step", step, "--folder", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{step} failed: {done.stderr[-2000:]}")
        results.append(json.loads(done.stdout))
    subprocess.run(["diff", "-r", str(folder), str(scratch / "pulled")], check=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="an empty place; without it, a temporary directory")
    parser.add_argument("--bytes", type=int, default=1 << 30, help="size of the adapter (default: 1 GiB)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(run_step(chosen.step, chosen.store, chosen.folder, chosen.bytes)))
        return 0
    with tempfile.TemporaryDirectory(prefix="large-") as scratch:
        url = chosen.store or f"file://{scratch}/store"
        results = measure(url, chosen.bytes, Path(scratch))
    for result in results:
        print(
            f"{result['step']:8} {result['seconds']:6.1f} s   {chosen.bytes / result['seconds'] / 1e6:6.0f} MB/s   "
            f"peak {result['peak_bytes'] / 2**20:4.0f} MiB ({result['ready_bytes'] / 2**20:.0f} at first)"
        )
    return 0 if all(result["peak_bytes"] <= BAR_BYTES for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

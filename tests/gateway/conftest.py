"""One real gateway over HTTP for the whole part: tiny base, real engine, directory store, four adapters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from msgspec import UNSET
from safetensors.numpy import save_file

from registry.adapters import Registry, Version
from registry.settings import Settings
from registry.store import open_store
from registry.trust import open_trust
from serving.base import Base
from serving.gateway.gateway import Gateway, open_gateway
from serving.gateway.logs import request_log
from serving.gateway.server import GatewayServer

RANKS = {"alpha": 4, "beta": 8, "gamma": 2}


def write_adapter(directory: Path, base: Base, seed: int, rank: int = 4) -> Path:
    """A LoRA adapter in PEFT's format, strong enough to change every answer."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tensors = {}
    for module, (out_features, in_features) in base.profile.linears.items():
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = rng.normal(size=(rank, in_features)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = (0.2 * rng.normal(size=(out_features, rank))).astype(np.float32)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.profile.names[0],
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in base.profile.linears}),
        "bias": "none",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


Publish = Callable[..., Version]


def publisher(registry: Registry, base: Base, root: Path) -> Publish:
    def publish(name: str, seed: int, *, rank: int = 4, prod: bool = True, policy: Any = None) -> Version:
        directory = write_adapter(root / f"{name}-{seed}", base, seed, rank)
        aliases = {"prod": UNSET} if prod else {}
        return registry.publish(name, directory, profile=base.profile, aliases=aliases, policy=policy)

    return publish


@dataclass
class Running:
    """A gateway that listens, and what a test wants to look at behind it."""

    gateway: Gateway
    server: GatewayServer
    http: httpx.Client
    publish: Publish
    log: io.StringIO
    base: Base

    @property
    def registry(self) -> Registry:
        return self.gateway.home.registry

    @property
    def base_name(self) -> str:
        return self.gateway.home.catalog.base_names[0]

    def chat(self, model: str, content: str = "hello", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
        return self.http.post("/v1/chat/completions", json={"temperature": 0, **body})

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def run(base: Base, root: Path, **settings: Any) -> Iterator[Running]:
    chosen = Settings(
        store=f"file://{root}/store",
        cache_dir=str(root / "cache"),
        port=0,
        observe_flush_s=0.2,
        drain_s=5,
        drain_quiet_s=0,
        **settings,
    )
    registry = Registry(open_store(chosen.store), actor="tests", trust=open_trust(chosen))
    registry.init()
    registry.register_base(base.profile)
    log = io.StringIO()
    gateway = open_gateway(chosen, registry, base, log=request_log(log))
    server = GatewayServer(gateway).start()
    try:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            yield Running(gateway, server, http, publisher(registry, base, root / "made"), log, base)
    finally:
        server.stop()
        gateway.close()


@pytest.fixture(scope="session")
def running(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Shared: publish under names of your own, and leave alpha, beta and gamma as they are."""
    for each in run(tiny_base, tmp_path_factory.mktemp("gateway")):
        for seed, (name, rank) in enumerate(RANKS.items(), start=1):
            each.publish(name, seed, rank=rank)
        yield each


@pytest.fixture
def fresh(tiny_base: Base, tmp_path: Path) -> Iterator[Running]:
    """One of your own, to stop or to break."""
    yield from run(tiny_base, tmp_path)


@pytest.fixture
def start(tiny_base: Base, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """As `fresh`, with settings of your own."""
    opened: list[Iterator[Running]] = []

    def begin(**settings: Any) -> Running:
        opened.append(run(tiny_base, tmp_path / str(len(opened)), **settings))
        return next(opened[-1])

    yield begin
    for each in opened:
        next(each, None)

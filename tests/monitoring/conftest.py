"""A registry in a directory, adapters whose traffic is seeded Gaussian embeddings, and a clock set by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from monitoring.basis import Basis, get_or_create
from monitoring.monitor import Monitor
from monitoring.observation import Observation, Vector, encode
from monitoring.reference import FILE_NAME, Reference, Sample, build_reference
from monitoring.sensor import hour_of, observations_prefix
from registry.adapters import Registry, Version
from registry.captures import CaptureRecord, CaptureWriter, FeedbackRecord
from registry.directory import DirectoryStore
from registry.manifest import BaseIdentity, BaseProfile
from registry.settings import Settings
from registry.ulid import ulid

HIDDEN = 24
START = 1_700_000_000.0
BASE_SHA = "b" * 64


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class World:
    """One tenant's bucket and the things that write to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()
        self.store = DirectoryStore(root / "bucket")
        self.registry = Registry(self.store, "default", self.clock, "tester")
        self.settings = Settings(lease_s=30.0, false_alarms_per_day=1000.0)
        identity = BaseIdentity(
            id="gaussian",
            weights_sha256=BASE_SHA,
            tokenizer_sha256="c" * 64,
            template_sha256="d" * 64,
            shape_sha256="e" * 64,
        )
        self.profile = BaseProfile(
            identity=identity,
            names=("gaussian",),
            architecture="llama",
            hidden_size=HIDDEN,
            num_layers=1,
            vocab_size=8,
            context_length=64,
            linears={"m.q_proj": (HIDDEN, HIDDEN)},
        )
        self.registry.register_base(self.profile)
        general = np.random.default_rng(5).normal(size=(400, HIDDEN)) * 1.5
        self.basis = get_or_create(self.store, BASE_SHA, lambda: Basis.fit(general))
        self.rng = random.Random(11)
        self.num_requests = 0
        self.captures = CaptureWriter(self.store, "default", "gw", self.clock)

    def embeddings(self, n: int, seed: int, topic: int = 0, shift: float = 0.0) -> Vector:
        """(n, HIDDEN) around a topic's center, `shift` along one axis."""
        rng = np.random.default_rng([seed, topic])
        center = np.random.default_rng(topic).normal(size=HIDDEN) * 0.7
        center[0] += shift
        return (center + rng.normal(size=(n, HIDDEN))).astype(np.float32)

    def reference(self, topic: int = 0, n: int = 240) -> Reference:
        samples = [Sample(embedding=e) for e in self.embeddings(n, 1, topic)]
        return build_reference(self.basis, samples, target_run_length=100)

    def publish(self, name: str, *, topic: int = 0, seed: int = 0, with_reference: bool = True) -> Version:
        folder = self.root / f"{name}-{seed}"
        folder.mkdir()
        weights = np.random.default_rng(seed).normal(size=(4, HIDDEN)).astype(np.float32)
        prefix = "base_model.model.m.q_proj.lora_"
        save_file(
            {f"{prefix}A.weight": weights, f"{prefix}B.weight": weights.T.copy()}, folder / "adapter_model.safetensors"
        )
        config = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "gaussian"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if with_reference:
            (folder / FILE_NAME).write_bytes(self.reference(topic).to_bytes())
        policy = {"capture": True, "min_examples": 5, "cooldown_s": 600.0}
        return self.registry.publish(
            name, folder, profile=self.profile, aliases={"prod": None} if seed == 0 else {}, policy=policy
        )

    def send(
        self,
        version: Version,
        embeddings: Vector,
        *,
        session: str | None = None,
        scalars: Mapping[str, float] | None = None,
        batch: int = 5,
        gateway: str = "gw",
    ) -> list[str]:
        """Write observations, a second apart, `batch` to an object; returns the request ids."""
        made = []
        for embedding in embeddings:
            self.num_requests += 1
            self.clock.now += 1.0
            made.append(
                Observation(
                    request_id=f"r{self.num_requests}",
                    session=session or f"s{self.num_requests}",
                    time=self.clock.now,
                    adapter=version.adapter,
                    version=version.number,
                    digest=version.digest,
                    embedding=embedding,
                    scalars=dict(scalars or {}),
                )
            )
            if len(made) % batch == 0 or len(made) == len(embeddings):
                rest = len(made) % batch or batch
                self.write(made[-rest:], gateway)
        return [each.request_id for each in made]

    def write(self, observations: list[Observation], gateway: str = "gw") -> str:
        now = self.clock.now
        key = f"{observations_prefix('default')}{hour_of(now)}/{ulid(now, self.rng)}-{gateway}.safetensors"
        assert self.store.create(key, encode(observations))
        return key

    def correct(self, version: Version, request_id: str, text: str, session: str = "") -> None:
        """A captured request and the correction a user gave."""
        self.captures.request(
            CaptureRecord(
                request_id=request_id,
                time=self.clock.now,
                session=session or request_id,
                adapter=version.adapter,
                digest=version.digest,
                messages=[{"role": "user", "content": f"question {request_id}"}],
                response="?",
            )
        )
        self.captures.feedback(
            FeedbackRecord(request_id=request_id, time=self.clock.now, adapter=version.adapter, correction=text)
        )

    def monitor(self, owner: str = "one") -> Monitor:
        return Monitor(self.registry, self.settings, self.clock, owner=owner)

    def settle(self) -> None:
        self.clock.now += 5.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[[str], World]:
    def make(name: str) -> World:
        (tmp_path / name).mkdir()
        return World(tmp_path / name)

    return make

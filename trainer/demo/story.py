"""The main job, step by step. Every claim it makes is checked on the spot; what fails names its step.

Uses the parts as their users do: TOML specs, the registry, the `openai` client over HTTP, feedback, the drift status.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog

from registry.adapters import Registry, Version
from registry.marker import read_marker
from registry.settings import Settings
from serving.base import Base, load_base
from trainer.demo.cast import SUMMARY, TOPIC, Player, cast, second_edition
from trainer.demo.drift import tell_drift
from trainer.demo.narrator import Narrator
from trainer.demo.serving import tell_rollback, tell_shared_batch
from trainer.demo.traffic import Traffic
from trainer.run import Outcome, train
from trainer.spec import load_spec
from trainer.together import Together, ensure_registry

CONCURRENT = 16
REQUEST_LOG = "requests.jsonl"


class Story:
    """One telling. `directory` receives specs and data; the store receives everything else."""

    def __init__(self, settings: Settings, narrator: Narrator, directory: Path) -> None:
        self._settings = settings
        self._narrator = narrator
        self._directory = directory

    def tell(self) -> dict[str, Any]:
        """All seven steps; returns the closing summary."""
        narrator = self._narrator
        with narrator.step("the frozen base"):
            base = self._load_base()
        with narrator.step("the registry"):
            registry = self._open_registry()
        self._directory.mkdir(parents=True, exist_ok=True)
        with (
            (self._directory / REQUEST_LOG).open("w", encoding="utf-8") as log,
            Together(self._settings, registry, base, log) as together,
        ):
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
            with narrator.step("three adapters with three jobs"):
                players = cast(self._directory)
                for player in players.values():
                    self._train(together, player)
            with narrator.step("one batch, many adapters"):
                together.server.start()
                together.start_background()
                traffic = Traffic(together.server.url, CONCURRENT)
                tell_shared_batch(narrator, together, players, traffic)
            with narrator.step("promote and roll back under traffic"):
                second = self._train(together, second_edition(self._directory, players[SUMMARY]))
                tell_rollback(narrator, together, players[SUMMARY], traffic, second)
            with narrator.step("drift becomes a better adapter"):
                promoted = tell_drift(narrator, together, players, traffic)
            with narrator.step("what happened, and where it is"):
                return self._close(together, promoted)

    def _load_base(self) -> Base:
        base = load_base(self._settings, self._narrator.say)
        identity = base.profile.identity
        self._narrator.say(
            f"{identity.id}: {base.profile.architecture}, {base.dtype}, weights sha256 {identity.weights_sha256}"
        )
        started = time.monotonic()
        again = load_base(self._settings)
        seconds = time.monotonic() - started
        self._narrator.claim(
            again.profile.identity == identity and seconds < 10,
            f"a second start finds the converted weights, checks their digest and takes {seconds:.1f} s (under 10)",
        )
        return base

    def _open_registry(self) -> Registry:
        registry = ensure_registry(self._settings, self._narrator.say)
        verdict = read_marker(registry.store).verdict
        self._narrator.show(
            ("check", "passed", "found"), [(check.name, check.passed, check.detail) for check in verdict.checks]
        )
        self._narrator.claim(
            verdict.passed, f"the doctor passes {verdict.url}: create-if-absent has exactly one winner"
        )
        return registry

    def _train(self, together: Together, player: Player) -> Version:
        """Train, gate and publish one spec; told with what was measured before and after."""
        started = time.monotonic()
        spec = load_spec(player.spec)
        with self._narrator.progress() as bar:
            outcome = train(
                spec, together.registry, together.base, together.engine, bar, home=self._settings.cache_path()
            )
        seconds = time.monotonic() - started
        self._narrator.show(
            ("metric", "base", "adapter", "n"), _measured(outcome), title=f"{player.name}, {seconds:.0f} s"
        )
        self._narrator.claim(
            outcome.verdict.passed, f"{player.name} passes its gate: {'; '.join(outcome.verdict.reasons)}"
        )
        version = outcome.version
        self._narrator.claim(
            version is not None
            and together.registry.resolve(f"{player.name}@{spec.publish.alias}").digest == version.digest,
            f"{player.name} is published with its evidence and aliased {spec.publish.alias}",
        )
        assert version is not None
        return version

    def _close(self, together: Together, promoted: Version) -> dict[str, Any]:
        settings, narrator = self._settings, self._narrator
        here = f"LORIMER_STORE={settings.store} LORIMER_TENANT={settings.tenant}"
        narrator.show(
            ("adapter", "versions", "prod", "updated"),
            [
                (
                    each.adapter,
                    each.num_versions,
                    f"v{each.aliases['prod']}",
                    time.strftime("%H:%M:%S", time.localtime(each.updated_at)),
                )
                for each in together.registry.list()
            ],
        )
        narrator.say(f"registry   {settings.store}, tenant {settings.tenant}")
        narrator.say(f"specs      {self._directory}")
        narrator.say(f"requests   {self._directory / REQUEST_LOG}")
        narrator.say(f"gateway    {together.server.url} (stops with this demo)")
        narrator.say(f"go on      {here} lorimer up")
        narrator.say(f"look       {here} lorimer registry log {TOPIC}")
        return {
            "store": settings.store,
            "tenant": settings.tenant,
            "specs": str(self._directory),
            "promoted": promoted.digest,
            "claims": narrator.claims,
            "seconds": narrator.seconds,
        }


def _measured(outcome: Outcome) -> list[tuple[object, ...]]:
    measured = outcome.evidence.measured
    base = measured.base or {}
    return [
        (
            name,
            f"{base[name].value:.3f}" if name in base else "-",
            f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]",
            metric.n,
        )
        for name, metric in measured.candidate.items()
    ]

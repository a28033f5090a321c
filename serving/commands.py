"""`lorimer base` and `lorimer bench engine`. Imports torch only when a verb runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from registry.errors import NotFound
from registry.terminal import Terminal, command, table
from serving.gateway.commands import serve

if TYPE_CHECKING:
    from registry.manifest import BaseProfile

__all__ = ["base", "bench", "serve"]


@click.command()
@click.option("--register/--no-register", default=True, help="Record the base in the registry.")
@command
def base(terminal: Terminal, /, register: bool) -> None:
    """Load, digest and register the frozen base model."""
    from serving.base import load_base

    loaded = load_base(terminal.settings, terminal.say)
    profile = loaded.profile
    registered = register and _register(terminal, profile)
    identity = profile.identity
    rows = [
        ("base", identity.id),
        ("also known as", ", ".join(name for name in profile.names if name != identity.id)),
        ("architecture", f"{profile.architecture}, {profile.num_layers} layers, hidden {profile.hidden_size}"),
        ("vocabulary, context", f"{profile.vocab_size:,} tokens, {profile.context_length:,} tokens"),
        ("linears", len(profile.linears)),
        ("dtype, device", f"{str(loaded.dtype).removeprefix('torch.')} on {loaded.device.type}"),
        ("weights sha256", identity.weights_sha256),
        ("tokenizer sha256", identity.tokenizer_sha256),
        ("template sha256", identity.template_sha256),
        ("shape sha256", identity.shape_sha256),
        ("registered in", terminal.settings.store if registered else "nowhere"),
    ]
    value = {
        "identity": {field: getattr(identity, field) for field in identity.__struct_fields__},
        "names": profile.names,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "device": loaded.device.type,
        "registered": registered,
    }
    terminal.result(value, table(("", ""), rows))


def _register(terminal: Terminal, profile: BaseProfile) -> bool:
    from registry.adapters import open_registry

    try:
        open_registry(terminal.settings).register_base(profile)
    except NotFound as error:
        terminal.say(f"not registered: {error}")
        return False
    return True


@click.group()
def bench() -> None:
    """Measure the engine on this machine."""


@bench.command()
@click.option("--rank", default=16, show_default=True, help="Rank of the random adapters, on every linear.")
@click.option("--rounds", default=3, show_default=True, help="Measured rounds per case, after one to warm up.")
@command
def engine(terminal: Terminal, /, rank: int, rounds: int) -> None:
    """Decode and prefill speed with no, one, few and many distinct adapters in the batch."""
    from serving.base import load_base
    from serving.bench import measure
    from serving.engine import Engine

    loaded = load_base(terminal.settings, terminal.say)
    running = Engine.from_settings(loaded, terminal.settings)
    try:
        results = measure(running, rank=rank, rounds=rounds)
    finally:
        running.close()
    rows = [
        (result.case, f"{result.tokens_per_s:,.0f}", f"{result.slowest:,.0f} - {result.fastest:,.0f}")
        for result in results
    ]
    terminal.result([asdict(result) for result in results], table(("case", "tokens/s", "slowest - fastest"), rows))

"""`lorimer up`: arguments in, the parts together, until told to stop."""

from __future__ import annotations

import sys

import click

from registry.terminal import Terminal, command


@click.command()
@click.option("--host", default=None, help="Address to listen on; anything but loopback needs API keys.")
@click.option("--port", type=int, default=None, help="Port to listen on; 0 takes a free one.")
@click.option("--vllm-metric-aliases", is_flag=True, default=None, help="Export vLLM's metrics too, by its names.")
@command
def up(terminal: Terminal, /, **_: object) -> None:
    """Run gateway, monitor and worker in one process.

    The registry is created where the store holds none. SIGTERM or Ctrl-C drains running requests, lets the
    worker checkpoint, and exits 0; nothing that was acknowledged is lost.
    """
    from registry.keys import KeyLog
    from serving.base import load_base
    from serving.gateway.access import require_guarded
    from serving.gateway.credentials import is_guarded
    from serving.gateway.logs import adopt_standard_logging
    from serving.gateway.server import free_address
    from serving.gateway.server import serve as serve_until_told
    from trainer.together import Together, ensure_registry

    settings = terminal.settings
    adopt_standard_logging(sys.stderr, settings.log_level)
    registry = ensure_registry(settings, terminal.say)
    require_guarded(settings.host, is_guarded(settings, KeyLog.of(registry).read()))
    free_address(settings.host, settings.port)
    base = load_base(settings, terminal.say)
    with Together(settings, registry, base) as together:
        together.start_background()

        def announce() -> None:
            terminal.say(f"listening on {together.server.url}, tenant {settings.tenant}")
            terminal.result({"url": together.server.url, "store": settings.store, "tenant": settings.tenant})

        serve_until_told(together.server, announce)

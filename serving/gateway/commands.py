"""`lorimer serve`: load the base, open the registry, listen until told to stop."""

from __future__ import annotations

import sys

import click

from registry.terminal import Terminal, command


@click.command()
@click.option(
    "--host",
    default=None,
    help="Address to listen on; anything but loopback needs keys, tokens or client certificates.",
)
@click.option("--port", type=int, default=None, help="Port to listen on; 0 takes a free one.")
@click.option("--pinned", default=None, help="Models to keep in memory always, separated by commas.")
@click.option("--vllm-metric-aliases", is_flag=True, default=None, help="Export vLLM's metrics too, by its names.")
@command
def serve(terminal: Terminal, /, **_: object) -> None:
    """Run the gateway: one base, every adapter, one batch.

    SIGTERM or Ctrl-C stops it gracefully: /ready fails at once, running requests finish, exit code 0.
    """
    from registry.adapters import open_registry
    from registry.keys import KeyLog
    from serving.base import load_base
    from serving.gateway.access import require_guarded
    from serving.gateway.credentials import is_guarded
    from serving.gateway.gateway import open_gateway
    from serving.gateway.logs import adopt_standard_logging
    from serving.gateway.server import GatewayServer, free_address
    from serving.gateway.server import serve as serve_until_told

    settings = terminal.settings
    adopt_standard_logging(sys.stderr, settings.log_level)
    registry = open_registry(settings)
    require_guarded(settings.host, is_guarded(settings, KeyLog.of(registry).read()))
    free_address(settings.host, settings.port)
    base = load_base(settings, terminal.say)
    gateway = open_gateway(settings, registry, base)
    server = GatewayServer(gateway)

    def announce() -> None:
        model = gateway.home.catalog.base_names[0]
        example = (
            f"curl {server.url}/v1/chat/completions -H 'content-type: application/json' "
            f'-d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
        )
        terminal.say(f"listening on {server.url}\n{example}")
        if terminal.as_json:
            terminal.result({"url": server.url, "base": model, "store": settings.store})

    try:
        serve_until_told(server, announce)
    finally:
        gateway.close()

"""The command line: lazy verbs, nothing else. Each verb lives in the `commands` module of the layer that owns it."""

from __future__ import annotations

import sys
from importlib import import_module

import click

VERBS = {
    "up": ("trainer.up", "up", "Run gateway, monitor and worker in one process."),
    "demo": ("trainer.demo.commands", "demo", "The main job, start to end, narrated, on a real model and real text."),
    "serve": ("serving.commands", "serve", "Run the gateway: one base, every adapter, one batch."),
    "monitor": ("monitoring.commands", "monitor", "Watch observations for drift and file retraining jobs."),
    "worker": ("trainer.commands", "worker", "Claim retraining and fine-tuning jobs and train."),
    "base": ("serving.commands", "base", "Load, digest and register the frozen base model."),
    "registry": ("registry.commands", "registry", "Versions, aliases, history: publish, pull, verify, roll back."),
    "train": ("trainer.commands", "train", "Check data, train, gate and publish an adapter."),
    "captures": ("registry.commands.captures", "captures", "What was kept of requests: list, export, forget, expire."),
    "jobs": ("registry.commands", "jobs", "List, show, submit and cancel jobs."),
    "keys": ("registry.commands.keys", "keys", "API keys: make, list, rotate and revoke them."),
    "audit": ("registry.commands.audit", "audit", "Show who changed what through the gateways, and when."),
    "bench": ("serving.commands", "bench", "Measure the engine on this machine."),
}


class LazyGroup(click.Group):
    """Imports a verb's module only when that verb is run, so that --help never loads torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, name, _ = VERBS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, _, text) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lorimer", prog_name="lorimer")
def cli() -> None:
    """Lorimer: one frozen base model, thousands of LoRA adapters, watched for drift.

    Settings come from lorimer.toml, then LORIMER_* variables, then flags. Every verb takes --json.

    \b
    Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 refused.
    Start here: lorimer demo
    """


def main() -> None:
    """Entry point: one clean line on Ctrl-C, never a traceback for it."""
    try:
        exit_code = cli.main(standalone_mode=False)
        sys.exit(exit_code if isinstance(exit_code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()

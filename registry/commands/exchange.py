"""`lorimer registry push | pull`: adapters on their way in and out. Decides nothing itself."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from registry import bases
from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.adapters import open_registry
from registry.commands.version import version_record
from registry.errors import Refused
from registry.terminal import Terminal, command, key_value, progress_bar


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--alias", "aliases", multiple=True, help="Move this alias to the new version in the same step.")
@click.option("--base-id", help="Which registered base, when the adapter fits several.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Record a tag in the manifest.")
@click.option("--reason", default="", help="Recorded with the alias move.")
@command
def push(
    terminal: Terminal,
    *,
    directory: Path,
    name: str,
    aliases: tuple[str, ...],
    base_id: str | None,
    tags: tuple[str, ...],
    reason: str,
) -> None:
    """Publish the PEFT adapter in DIRECTORY as the next version of NAME.

    Checked first: plain files only, no pickles, tensors that fit the base, finite values. The same
    files pushed again are the same version. Nothing is visible until everything is stored.
    """
    opened = open_registry(terminal.settings)
    profile = None
    if base_id is not None:
        config_file = directory / CONFIG_FILE
        if not config_file.is_file():
            raise Refused(f"{directory} has no {CONFIG_FILE}")
        trained_on = read_adapter_config(config_file).base_model_name_or_path
        profile = bases.choose(opened.bases(), trained_on, base_id)
    with progress_bar(terminal, f"pushing {name}") as progress:
        version = opened.publish(
            name,
            directory,
            profile=profile,
            tags=dict(key_value(tag) for tag in tags),
            aliases=dict.fromkeys(aliases, msgspec.UNSET),
            reason=reason,
            progress=progress,
        )
    also = f", now {', '.join(aliases)}" if aliases else ""
    terminal.result(version_record(version), f"{version.name} {version.digest}{also}")


@click.command()
@click.argument("ref")
@click.argument("directory", type=click.Path(path_type=Path))
@command
def pull(terminal: Terminal, ref: str, directory: Path) -> None:
    """Fetch a version into a new DIRECTORY, every file checked against the manifest."""
    with progress_bar(terminal, f"pulling {ref}") as progress:
        version = open_registry(terminal.settings).pull(ref, directory, progress)
    terminal.result(version_record(version), f"{version.name} -> {directory}")

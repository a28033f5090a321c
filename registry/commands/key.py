"""`lorimer registry key`: the key this machine signs with. Decides nothing itself."""

from __future__ import annotations

from pathlib import Path

import click

from registry.errors import Invalid, Refused
from registry.settings import Settings
from registry.signing import new_key, read_key
from registry.store import store_of
from registry.terminal import Terminal, command

PATH = click.Path(path_type=Path, dir_okay=False)


@click.group()
def key() -> None:
    """The private key that events are signed with. It stays on this machine, outside the bucket."""


@key.command("new")
@click.argument("path", type=PATH, required=False)
@command
def new(terminal: Terminal, path: Path | None) -> None:
    """Make a private key in PATH (or where `signing_key` says), readable by you alone; print its public half.

    \b
    lorimer registry key new ~/.config/lorimer/ada.key
    export LORIMER_SIGNING_KEY=~/.config/lorimer/ada.key
    """
    path = _path(terminal.settings, path)
    store = store_of(terminal.settings).url
    if store.startswith("file://") and path.resolve().is_relative_to(Path(store.removeprefix("file://")).resolve()):
        raise Refused(
            f"{path} lies in the store itself", hint="a private key belongs where the store's readers are not"
        )
    made = new_key(path)
    terminal.result({"key": made.id, "path": str(path)}, made.id)
    terminal.say(f"the private half is in {path}: keep it, and a copy in a safe place")


@key.command("show")
@click.argument("path", type=PATH, required=False)
@command
def show(terminal: Terminal, path: Path | None) -> None:
    """Print the public half of the key in PATH (or of `signing_key`), as rules and `trusted_keys` name it."""
    path = _path(terminal.settings, path)
    found = read_key(path)
    terminal.result({"key": found.id, "path": str(path)}, found.id)


def _path(settings: Settings, path: Path | None) -> Path:
    if path is None and settings.signing_key is None:
        raise Invalid("which key?", hint="name a file, or set signing_key", param="path")
    return (path or Path(settings.signing_key or "")).expanduser()

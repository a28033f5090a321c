"""Every `lorimer` command that the documents show is one that the program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lorimer import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(lorimer [^`]+)`")


def shown(text: str) -> Iterator[str]:
    """Lines of code blocks that are commands; what follows a comment sign or a pipe is not ours."""
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            command = line.strip().removeprefix("$ ")
            if command.startswith("lorimer "):
                yield re.split(r"\s+[#|&](?:\s|$)|\s{4,}", command)[0]


def find(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"no such command: {words[0]}"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_blocks_can_be_typed(document: Path) -> None:
    for line in shown(document.read_text()):
        command, words = find(shlex.split(line)[1:])
        if not isinstance(command, click.Group) and "..." not in words:
            try:
                command.make_context("lorimer", words)
            except click.UsageError as error:
                pytest.fail(f"{document.name}: {line}: {error.format_message()}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_sentences_name_real_options(document: Path) -> None:
    for text in _INLINE.findall(document.read_text()):
        command, words = find(re.split(r"[\s\[\]|]+", text)[1:])
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        for word in words:
            assert not word.startswith("--") or word.partition("=")[0] in known, f"{document.name}: {text}: {word}"

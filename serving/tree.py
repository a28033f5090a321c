"""The engine's module tree: the base's own, with our linears, embedding and head in it. Knows no pass."""

from __future__ import annotations

from torch import nn

from serving import linear
from serving.base import Base
from serving.embedding import Embed
from serving.head import Head
from serving.linear import Turn


def install(tree: nn.Module, base: Base, turn: Turn) -> None:
    """Replace every decoder linear, the input embedding and the head of a tree of this base."""
    linear.install(tree, base.sites, turn)
    _replace(tree, base.embedding_name, Embed(tree.get_submodule(base.embedding_name), turn))
    _replace(tree, base.head.names[0], Head(base.head, turn))


def _replace(tree: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(tree.get_submodule(parent), leaf, module)

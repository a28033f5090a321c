"""`lorimer registry`: words around the façade, one module for each noun. Decides nothing itself."""

from __future__ import annotations

import click

from registry.commands.alias import alias, rollback
from registry.commands.exchange import copy, export, import_, pull, push
from registry.commands.job import jobs
from registry.commands.key import key
from registry.commands.listing import index, list_adapters
from registry.commands.place import doctor, init, upgrade_format
from registry.commands.policy import policy
from registry.commands.rules import review, rules
from registry.commands.sharing import share
from registry.commands.upkeep import gc, retain
from registry.commands.version import delete, quarantine, show, show_log, verify

__all__ = ["jobs", "registry"]


@click.group()
def registry() -> None:
    """Versions, aliases and history of adapters, in a directory or an S3 bucket.

    \b
    A reference is ADAPTER, ADAPTER@alias, ADAPTER@v3 or ADAPTER@sha256:1f2e3d.
    Without a selector it means the alias `prod`.
    \b
    lorimer registry init --store s3://models/lorimer
    lorimer registry push ./my-adapter support --alias prod
    lorimer registry rollback support
    """


for verb in (
    init,
    doctor,
    push,
    pull,
    export,
    import_,
    copy,
    share,
    list_adapters,
    show,
    show_log,
    alias,
    rollback,
    quarantine,
    delete,
    retain,
    gc,
    index,
    verify,
    policy,
):
    registry.add_command(verb)
for trusted in (rules, review, key, upgrade_format):
    registry.add_command(trusted)

"""`lorimer registry share`: what other tenants may read of an adapter. Decides nothing itself."""

from __future__ import annotations

import click

from registry.adapters import open_registry
from registry.errors import Invalid
from registry.neighbours import share as grant
from registry.terminal import Terminal, command, table


@click.command()
@click.argument("name")
@click.argument("with_tenant", metavar="[TENANT]", required=False)
@click.argument("selector", default="prod")
@click.option("--revoke", is_flag=True, help="Take it back.")
@command
def share(terminal: Terminal, *, name: str, with_tenant: str | None, selector: str, revoke: bool) -> None:
    """Let TENANT read what SELECTOR means of adapter NAME: an alias (default: prod), v3, a digest, or '*'.

    An alias is shared as it moves. TENANT names it as OWNER/NAME@alias, in every verb that reads and in
    requests to its gateway; it can change nothing. Without TENANT: who may read what.
    """
    opened = open_registry(terminal.settings)
    if with_tenant is None and revoke:
        raise Invalid("name the tenant to take it back from", param="tenant")
    if with_tenant is not None:
        opened.commit(name, grant(with_tenant, selector, revoke=revoke))
    grants = opened.state(name).grants
    rows = [(tenant, ", ".join(selectors)) for tenant, selectors in sorted(grants.items())]
    drawn = table(["tenant", f"may read of {name}"], rows)
    terminal.result({"adapter": name, "grants": grants}, drawn if rows else f"{name} is shared with nobody")

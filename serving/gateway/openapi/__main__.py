"""`python -m serving.gateway.openapi`: docs/api.md, made anew; with `--json`, the document it is made from."""

from __future__ import annotations

import sys

import click
import msgspec
from litestar import Litestar

from serving.gateway.app import ROUTES
from serving.gateway.openapi.document import describe
from serving.gateway.openapi.markdown import markdown


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The OpenAPI document itself.")
def main(as_json: bool) -> None:
    """Write docs/api.md to standard output."""
    document = describe(Litestar(ROUTES, openapi_config=None))
    text = msgspec.json.format(msgspec.json.encode(document)).decode() if as_json else markdown(document)
    click.echo(text, nl=as_json)


if __name__ == "__main__":
    sys.exit(main())

"""OPTIONS of paths that several handlers share: every method that there is. Knows paths and methods only.

Litestar answers by itself where a path has one handler; of several it tells the methods of the first one it met.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from litestar import Response, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler


def options(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """A handler for each shared path; to be registered before the others."""
    methods: dict[str, list[str]] = defaultdict(list)
    for handler in handlers:
        for path in handler.paths:
            methods[path] += handler.http_methods
    return [_telling(path, allowed) for path, allowed in methods.items() if len(allowed) > 1]


def _telling(path: str, methods: Sequence[str]) -> HTTPRouteHandler:
    allowed = {"allow": ", ".join(sorted([*methods, "OPTIONS"]))}

    @route(path, http_method=[HttpMethod.OPTIONS], status_code=204, sync_to_thread=False)
    def tell() -> Response[None]:
        return Response(None, status_code=204, headers=allowed)

    return tell

"""Examples of what machines ask."""

from __future__ import annotations

from collections.abc import Mapping

from serving.gateway.openapi.examples.example import BASE, WEIGHTS, Example

OPERATIONS: Mapping[str, Example] = {
    "health": Example(answer={"status": "ok"}),
    "ready": Example(answer={"status": "ready"}),
    "show_version": Example(answer={"version": "0.1.0", "base": BASE, "base_weights": WEIGHTS}),
    "openapi": Example(answer={"openapi": "3.1.0", "info": {"title": "Lorimer", "version": "0.1.0"}, "paths": {}}),
    "metrics": Example(
        answer="# HELP lorimer_running Rows in the batch.\n# TYPE lorimer_running gauge\nlorimer_running 3.0\n"
    ),
}

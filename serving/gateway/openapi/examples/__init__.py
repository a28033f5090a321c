"""An example of every operation, by the name of its handler. Tests send what is asked and check what is answered."""

from __future__ import annotations

from collections.abc import Mapping

from serving.gateway.openapi.examples.captures import CAPTURES
from serving.gateway.openapi.examples.example import Example
from serving.gateway.openapi.examples.fine_tuning import FINE_TUNING
from serving.gateway.openapi.examples.inference import INFERENCE
from serving.gateway.openapi.examples.operations import OPERATIONS
from serving.gateway.openapi.examples.registry import REGISTRY
from serving.gateway.openapi.examples.responses import RESPONSES

__all__ = ["EXAMPLES", "Example"]

EXAMPLES: Mapping[str, Example] = {**INFERENCE, **RESPONSES, **FINE_TUNING, **REGISTRY, **CAPTURES, **OPERATIONS}

"""Logs as one JSON object per line, ours and the libraries' alike. Knows no request."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

LOGGER = "lorimer"


def request_log(stream: TextIO, level: str = "info") -> FilteringBoundLogger:
    """A structlog logger writing one JSON object per line."""
    log: Any = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[*_shared(), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return log  # type: ignore[no-any-return]


def adopt_standard_logging(stream: TextIO, level: str = "info") -> None:
    """Write what the engine and the libraries log through `logging` in the same way. For a process of our own."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(level.upper())


def _shared() -> list[Processor]:
    return [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), _where]


def _where(_: Any, __: str, event: EventDict) -> EventDict:
    """An exception as its kind and the lines it went through; its words may quote what somebody asked."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_steps(error))
    return event


def _steps(error: BaseException) -> list[str]:
    steps = [] if (cause := error.__cause__ or error.__context__) is None else _steps(cause)
    return [*steps, *_frames(error.__traceback__), type(error).__qualname__]


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(trace)]

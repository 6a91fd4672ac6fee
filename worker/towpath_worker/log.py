"""Structured log lines of the worker, through Python's own logging: programs that embed it decide what is shown."""

from __future__ import annotations

import logging
import sys
from typing import cast

import structlog


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines are an event and key=value pairs; values are quoted, so that no line can fake another."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"], drop_missing=True, bool_as_flag=False),
        ],
    )
    return cast(structlog.stdlib.BoundLogger, wrapped)


def to_stderr(level: str) -> None:
    """Shows log lines of this level and above on standard error."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )

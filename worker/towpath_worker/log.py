"""Structured log lines of the worker, through Python's own logging: programs that embed it decide what is shown.

An event is one line, whatever the names in it contain: what cannot be seen is written out, also of traces.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines are an event and key=value pairs; values are quoted, so that no line can fake another."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            _one_line,
            structlog.processors.LogfmtRenderer(key_order=["event"], drop_missing=True, bool_as_flag=False),
        ],
    )
    return cast(structlog.stdlib.BoundLogger, wrapped)


def to_stderr(level: str) -> None:
    """Shows log lines of this level and above on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def visible(text: str) -> str:
    """The text with all that cannot be seen written out: ends of lines, escapes of a terminal, turns of direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _one_line(logger: object, method: str, facts: Any) -> Any:
    for name, value in facts.items():
        if value is not None and not isinstance(value, (bool, int, float)):
            facts[name] = visible(str(value))
    return facts


class _OneLine(logging.Formatter):
    """Also of what libraries log."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with its trace if it has one."""
        return visible(super().format(record))

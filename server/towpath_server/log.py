"""What the server says, and its log. structlog takes a fifth of a second to import: it comes with the first line.

An event is one line, whatever the names in it contain: what cannot be seen is written out. Only a trace has lines of
its own, and each of them begins with a mark that no other line has.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from functools import cache
from types import ModuleType
from typing import Any

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Before each line of a trace.
MARK = "  | "

# Level and whether as JSON, for standard error; None: structlog stays as whoever imports this package has set it up.
_wanted: tuple[str, bool] | None = None


class Logger:
    """What of a structlog logger is used here."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **facts: object) -> None:
        """Something worth knowing."""
        ready().get_logger(self._name).info(event, **facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something that should not last."""
        ready().get_logger(self._name).warning(event, **facts)

    def error(self, event: str, **facts: object) -> None:
        """Something that must not be."""
        ready().get_logger(self._name).error(event, **facts)


def to_stderr(level: str, *, as_json: bool) -> None:
    """Write to standard error what is said from now on."""
    global _wanted  # noqa: PLW0603 - one log a process, as in structlog
    _wanted = level, as_json
    ready.cache_clear()
    root = logging.getLogger()
    if not any(isinstance(handler, _Foreign) for handler in root.handlers):
        root.addHandler(_Foreign())
    if "structlog" in sys.modules:
        ready()


@cache
def ready() -> ModuleType:
    """structlog, as it is wanted. Called ahead of the first line it keeps nobody waiting then."""
    import structlog

    if _wanted is not None:
        level, as_json = _wanted
        renderer = (
            structlog.processors.JSONRenderer()
            if as_json
            else structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                *([] if as_json else [_one_line]),
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
    return structlog


def visible(text: str) -> str:
    """The text with all that cannot be seen written out: ends of lines, escapes of a terminal, turns of direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def marked(trace: str) -> str:
    """A trace whose lines nobody takes for events, whatever the message in it contains."""
    return "\n".join(MARK + visible(line) for line in trace.split("\n"))


def _one_line(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace = facts.pop("exception", None)
    for name, value in facts.items():
        if value is not None and not isinstance(value, (bool, int, float)):
            facts[name] = visible(value if isinstance(value, str) else repr(value))
    if trace is not None:
        facts["exception"] = marked(str(trace))
    return facts


class _Foreign(logging.Handler):
    """What libraries log, and Python of tasks that nobody waited for, in the same lines as everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        facts: dict[str, object] = {"logger": record.name}
        if record.exc_info:
            facts["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        tell = Logger(record.name)
        (tell.error if record.levelno >= logging.ERROR else tell.warning)(record.getMessage(), **facts)


def say(words: str) -> None:
    """Print, though whoever read this may be gone: that must keep no program from starting or stopping well.

    What comes from elsewhere is `visible` before it is one of the words.
    """
    try:
        print("\n".join(map(visible, words.split("\n"))), flush=True)
    except OSError:
        # What could not be written would be tried again at the exit, and fail it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

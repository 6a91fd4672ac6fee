"""What the server says, and its log. structlog takes a fifth of a second to import: it comes with the first line."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from types import ModuleType

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

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
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        )
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
    return structlog


def say(words: str) -> None:
    """Print, though whoever read this may be gone: that must keep no program from starting or stopping well."""
    try:
        print(words, flush=True)
    except OSError:
        # What could not be written would be tried again at the exit, and fail it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

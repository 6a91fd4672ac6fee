"""A job's progress for people: a live bar on a terminal and in notebooks, plain lines in a pipe."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from towpath.types import Job, Progress
from towpath.wording import eta, in_notebook, metrics, one_line

if TYPE_CHECKING:
    from rich.console import Console

# In a pipe: a line for every so many percent.
STEP = 10

_terminal = threading.Lock()


class Follower(Protocol):
    """Shows snapshots of a job."""

    def update(self, job: Job) -> None:
        """Shows the next snapshot."""


def wanted(progress: bool | None) -> bool:
    """Whether to show progress: as told, else on a terminal and in a notebook."""
    return is_live() if progress is None else progress


def is_live() -> bool:
    """Whether standard error is a terminal, or this is a notebook."""
    return in_notebook() or (sys.stderr.isatty() and os.environ.get("TERM") != "dumb")


def follow(jobs: Iterable[Job]) -> Job:
    """Shows a job, or a handle on one, until it is final; its last snapshot."""
    last: Job | None = None
    with follower() as shown:
        for last in jobs:
            shown.update(last)
    if last is None:
        raise ValueError("There was no job to follow.")
    return last


@contextmanager
def follower(console: Console | None = None) -> Iterator[Follower]:
    """What fits where this runs: a live bar, or lines on standard error."""
    if console is None and not is_live():
        yield Lines(sys.stderr)
        return
    # A terminal has room for one live bar; jobs that other threads or tasks wait for meanwhile show none.
    if not _terminal.acquire(blocking=False):
        yield Silence()
        return
    try:
        from towpath.bar import live_bar

        with live_bar(console) as bar:
            yield bar
    finally:
        _terminal.release()


class Silence:
    """Shows nothing."""

    def update(self, job: Job) -> None:
        """Does nothing."""


class Lines:
    """One line for each new state, phase, and tenth of the way."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: tuple[object, ...] = ()

    def update(self, job: Job) -> None:
        """Writes a line, where there is something new to say."""
        progress = job.progress
        percent = progress.percent if progress is not None else None
        step = None if percent is None else int(percent // STEP)
        key = (job.state, job.attempt, progress.phase if progress else "", step)
        if key != self._last:
            self._last = key
            self._out.write(one_line(describe(job)) + "\n")
            self._out.flush()


def describe(job: Job) -> str:
    """`job_... RUNNING 42 % fit: round 42 of 100, logloss 0.2310, 12 s left`."""
    parts = [f"{job.job_id} {job.state}"]
    if job.progress is not None and not job.is_final:
        parts.append(summary(job.progress))
    elif job.failure is not None:
        parts.append(f"{job.failure.type}: {first_line(job.failure.message)}")
    elif job.state_reason:
        parts.append(first_line(job.state_reason))
    return " ".join(part for part in parts if part)


def first_line(text: str) -> str:
    """What stands before the first end of a line."""
    return text.partition("\n")[0].rstrip()


def summary(progress: Progress) -> str:
    """`42 % fit: round 42 of 100, logloss 0.2310, 12 s left`."""
    percent = "" if progress.percent is None else f"{progress.percent:.0f} %"
    said = ": ".join(part for part in (progress.phase, progress.message) if part)
    rest = [part for part in (metrics(progress), eta(progress)) if part]
    return ", ".join([part for part in [f"{percent} {said}".strip()] if part] + rest)

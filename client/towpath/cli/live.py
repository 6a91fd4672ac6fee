"""Where a watched job is shown: a live bar on a terminal, plain lines in a pipe, nothing for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from towpath import display
from towpath.cli import output

if TYPE_CHECKING:
    from towpath.types import Job


class Nothing:
    """Shows nothing."""

    def update(self, job: Job) -> None:
        """Nothing."""


@contextmanager
def follower(*, quiet: bool = False, to_stdout: bool = False) -> Iterator[display.Follower]:
    """Shows snapshots of a job on standard error, or on standard output."""
    stream = sys.stdout if to_stdout else sys.stderr
    if quiet:
        yield Nothing()
    elif output.is_terminal(stream):
        from towpath.bar import live_bar

        with live_bar(output.console(stderr=not to_stdout)) as bar:
            yield bar
    else:
        yield display.Lines(stream)

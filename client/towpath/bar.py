"""The live bar, by rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from towpath import wording
from towpath.enums import JobState

if TYPE_CHECKING:
    from rich.progress import Task

    from towpath.types import Job

STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.TIMED_OUT: "red",
    JobState.CANCELLED: "yellow",
    JobState.CANCELLING: "yellow",
    JobState.PAUSED: "yellow",
}


class Literal(TextColumn):
    """A column whose text is shown as it is: no markup, no emoji, no control characters."""

    def __init__(self, name: str) -> None:
        super().__init__("")
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(wording.one_line(str(task.fields[self._name])), style=task.fields["style"], overflow="ellipsis")


class Bar:
    """One job's bar: state, phase, percent, current metrics, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, head="", said="", style="")

    def update(self, job: Job) -> None:
        """Shows the next snapshot."""
        head = f"{job.job_type} {job.state.lower().replace('_', ' ')}"
        done = 100.0 if job.state is JobState.SUCCEEDED else job.progress.percent if job.progress else None
        self._progress.update(
            self._task,
            head=head,
            said=said(job),
            style=STYLES.get(job.state, ""),
            total=None if done is None else 100.0,
            completed=done or 0.0,
            refresh=job.is_final,
        )


def said(job: Job) -> str:
    """What stands behind the bar."""
    if job.failure is not None and job.is_final:
        return f"{job.failure.type}: {job.failure.message}"
    if job.progress is None:
        return job.state_reason
    if job.is_final:
        return wording.metrics(job.progress)
    phase = ": ".join(part for part in (job.progress.phase, job.progress.message) if part)
    return ", ".join(part for part in (phase, wording.metrics(job.progress), wording.eta(job.progress)) if part)


@contextmanager
def live_bar(console: Console | None = None) -> Iterator[Bar]:
    """A bar on standard error, or in the notebook's cell; the last state stays."""
    progress = Progress(
        SpinnerColumn(),
        Literal("head"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00"))),
        Literal("said"),
        console=console or Console(stderr=not wording.in_notebook()),
    )
    with progress:
        yield Bar(progress)

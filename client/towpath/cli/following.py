"""Watching a job: a live bar on a terminal, plain lines in a pipe, one JSON document a line for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from towpath.cli import output, results, views
from towpath.cli.exit_codes import ExitCode
from towpath.cli.live import follower

if TYPE_CHECKING:
    from towpath import JobHandle
    from towpath.types import Job


def follow(handle: JobHandle, *, as_json: bool = False, stream: bool = False) -> Job:
    """Watches a job until it is final and returns it; one without a result ends the command with exit code 1.

    `as_json` prints the final job, with `stream` each change on a line of its own; else its result or failure is
    shown to people.
    """
    job = _watch(handle, quiet=as_json, each=as_json and stream, lines_to_stdout=stream)
    if not as_json:
        _show(job)
    elif not stream:
        output.document(results.document(job))
    if job.state != "SUCCEEDED":
        raise typer.Exit(ExitCode.JOB_FAILED)
    return job


def logs(handle: JobHandle, *, follow: bool, attempt: int, as_json: bool) -> None:
    """Prints what a job's handler wrote, as it is in a pipe, and harmless on a terminal."""
    with _interruptible(handle.job_id):
        for chunk in handle.log_chunks(follow=follow, attempt=attempt):
            if as_json:
                output.document(chunk, line=True)
            else:
                sys.stdout.write(output.harmless(chunk.text) if output.on_terminal() else chunk.text)
                sys.stdout.flush()


def _watch(handle: JobHandle, *, quiet: bool, each: bool, lines_to_stdout: bool) -> Job:
    with _interruptible(handle.job_id), follower(quiet=quiet, to_stdout=lines_to_stdout) as shown:
        job = None
        for event in handle.events():
            job = event.job
            if each:
                output.document(event, line=True)
            # How it failed is told once, in full, when the watch is over.
            if job.state == "SUCCEEDED" or not job.is_final:
                shown.update(job)
        return job if job is not None and job.is_final else handle.wait()


def _show(job: Job) -> None:
    if job.state == "SUCCEEDED":
        results.result(job.result)
        return
    views.failed(job)


@contextmanager
def _interruptible(job_id: str) -> Iterator[None]:
    """Ctrl-C ends the watch, never the job."""
    try:
        yield
    except KeyboardInterrupt:
        output.note("")
        output.note(f"{job_id} goes on. Watch it: towpath jobs watch {job_id}")
        output.note(f"Cancel it: towpath jobs cancel {job_id}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _why_it_waits(handle: JobHandle) -> None:
    """A word on a job that no worker took at once: nobody shall wait for what nobody will do."""
    if handle.state == "QUEUED":
        output.note(f"{handle.job_id} QUEUED: {handle.explain().summary} (towpath jobs explain {handle.job_id})")


def submitted(handle: JobHandle, *, wait: bool, as_json: bool) -> Job | None:
    """After a submit: waits and shows what came of it, or prints the new job's id."""
    if wait:
        if not as_json:
            output.note(f"{handle.job_id} submitted")
            with _interruptible(handle.job_id):
                _why_it_waits(handle)
        return follow(handle, as_json=as_json)
    if as_json:
        output.document(handle.job)
    else:
        output.line(handle.job_id)
        _why_it_waits(handle)
        if sys.stderr.isatty():
            output.note(f"Watch it: towpath jobs watch {handle.job_id}")
    return None

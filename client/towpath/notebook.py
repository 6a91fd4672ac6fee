"""How a job looks in a notebook."""

from __future__ import annotations

from html import escape

from towpath.enums import JobState
from towpath.types import Job
from towpath.wording import eta, number

COLOURS = {
    JobState.SUCCEEDED: "#2e7d32",
    JobState.FAILED: "#c62828",
    JobState.TIMED_OUT: "#c62828",
    JobState.CANCELLED: "#8d6e63",
}


def job_html(job: Job) -> str:
    """A small table: state, progress bar, metrics, failure. Everything in it is escaped."""
    rows = [("job", escape(job.job_id)), ("type", escape(job.job_type)), ("state", _state(job))]
    if job.progress is not None and not job.is_final:
        rows.append(("progress", _bar(job)))
    if job.progress is not None and job.progress.metrics:
        shown = ", ".join(f"{escape(name)} {number(value)}" for name, value in sorted(job.progress.metrics.items()))
        rows.append(("metrics", shown))
    if job.worker_id:
        rows.append(("worker", escape(job.worker_id)))
    if job.failure is not None:
        rows.append(("failure", escape(f"{job.failure.type}: {job.failure.message}")))
    cells = "".join(f"<tr><th style='text-align:left'>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _state(job: Job) -> str:
    colour = COLOURS.get(job.state, "#1565c0")
    reason = f" {escape(job.state_reason)}" if job.state_reason else ""
    return f"<b style='color:{colour}'>{escape(job.state)}</b>{reason}"


def _bar(job: Job) -> str:
    assert job.progress is not None
    percent = job.progress.percent
    said = escape(" ".join(part for part in (job.progress.phase, job.progress.message, eta(job.progress)) if part))
    if percent is None:
        return said
    return f"<progress max='100' value='{percent:.0f}'></progress> {percent:.0f} % {said}"

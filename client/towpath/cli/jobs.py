"""`towpath jobs`: look at jobs and steer them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation
from towpath.cli.names import State

if TYPE_CHECKING:
    from towpath.types import Job

app = typer.Typer(help="Look at jobs and steer them.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, job_...")]


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        list[State] | None, typer.Option(case_sensitive=False, help="Only in this state; may be given again.")
    ] = None,
    queue: Annotated[str, typer.Option(help="Only of this queue.")] = "",
    job_type: Annotated[str, typer.Option("--type", help="Only of this type.")] = "",
    user: Annotated[str, typer.Option(help="Only of this user.")] = "",
    workspace: Annotated[str, typer.Option(help="Only of this workspace.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only with this label.")] = None,
    worker: Annotated[str, typer.Option(help="Only those that this worker has, or had last.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
) -> None:
    """List jobs, the newest first."""
    from towpath.cli import parsing, views

    invocation = Invocation.of(ctx)
    labels = parsing.pairs(label or (), "--label")
    with invocation.client() as client:
        found = client.jobs(
            states=[one.value for one in state or ()],
            queue=queue,
            job_type=job_type,
            user=user,
            workspace=workspace,
            labels=labels,
            worker_id=worker,
            limit=limit,
        )
        jobs = list(islice(found, limit))
    if invocation.json:
        output.documents("jobs", jobs)
    else:
        views.jobs(jobs)


@app.command()
def get(ctx: typer.Context, job: JobId) -> None:
    """Show one job with its result or failure."""
    from towpath.cli import results, views

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found = client.get(job)
    if invocation.json:
        output.document(results.document(found))
    else:
        views.job(found)


@app.command()
def watch(ctx: typer.Context, job: JobId) -> None:
    """Watch a job live until it is final. Ctrl-C leaves it running."""
    from towpath.cli import following

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        following.follow(client.job(job), as_json=invocation.json, stream=True)


@app.command()
def logs(
    ctx: typer.Context,
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job is final.")] = False,
    attempt: Annotated[int, typer.Option(min=0, help="Of this attempt. Default: the current or last one.")] = 0,
) -> None:
    """Print what a job's handler wrote."""
    from towpath.cli import following

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        following.logs(client.job(job), follow=follow, attempt=attempt, as_json=invocation.json)


@app.command()
def cancel(
    ctx: typer.Context,
    job: JobId,
    force: Annotated[bool, typer.Option("--force", help="Kill it at once, without the grace.")] = False,
    reason: Annotated[str, typer.Option(help="Kept with the job.")] = "",
) -> None:
    """Cancel a job. A final job stays as it is."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        _tell(invocation, client.cancel(job, force=force, reason=reason))


@app.command()
def pause(ctx: typer.Context, job: JobId) -> None:
    """Hold a job back. One that runs is stopped, and starts again when resumed."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        _tell(invocation, client.pause(job))


@app.command()
def resume(ctx: typer.Context, job: JobId) -> None:
    """Let a paused job go on."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        _tell(invocation, client.resume(job))


@app.command()
def retry(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="JOB...", help="The jobs' ids, job_...")] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="All jobs that are FAILED instead.")] = False,
    queue: Annotated[str, typer.Option(help="With --all-failed: only of this queue.")] = "",
    job_type: Annotated[str, typer.Option("--type", help="With --all-failed: only of this type.")] = "",
) -> None:
    """Queue final jobs again, each with a new budget of attempts."""
    from towpath.cli import failures
    from towpath.errors import TowpathError

    if bool(job) is all_failed or ((queue or job_type) and not all_failed):
        raise typer.BadParameter("name jobs, or give --all-failed (and with it --queue and --type)")
    invocation = Invocation.of(ctx)
    code = 0
    with invocation.client() as client:
        failed = (one.job_id for one in client.jobs(states=["FAILED"], queue=queue, job_type=job_type))
        for job_id in job or failed:
            try:
                _tell(invocation, client.retry(job_id), line=all_failed or len(job or ()) > 1)
            except TowpathError as error:
                # One that cannot be retried keeps no other from it.
                code = failures.report(error)
                if failures.is_general(error):
                    break
    raise typer.Exit(code)


@app.command()
def delete(ctx: typer.Context, job: JobId) -> None:
    """Delete a final job with its logs."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        client.delete(job)
    if invocation.json:
        output.document({"job_id": job})
    else:
        output.line(f"{job} deleted")


@app.command()
def explain(ctx: typer.Context, job: JobId) -> None:
    """Say why a job does not run: its place, and what each worker lacks."""
    from towpath.cli import views

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found = client.explain(job)
    if invocation.json:
        output.document(found)
    else:
        views.explanation(found)


@app.command()
def attempts(ctx: typer.Context, job: JobId) -> None:
    """List each delivery of a job to a worker, the newest first."""
    from towpath.cli import views

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found = list(client.attempts(job))
    if invocation.json:
        output.documents("attempts", found)
    else:
        views.attempts(found)


def _tell(invocation: Invocation, job: Job, *, line: bool = False) -> None:
    if invocation.json:
        output.document(job, line=line)
    else:
        reason = f" ({job.state_reason})" if job.state_reason else ""
        output.line(f"{job.job_id} {job.state}{reason}")

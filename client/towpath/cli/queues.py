"""`towpath queues`: look at queues, hold them, let them go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation

if TYPE_CHECKING:
    from towpath.fleet import Queue

app = typer.Typer(help="Look at queues, hold them, let them go.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the queues with what waits and runs in them."""
    from towpath.cli import times

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        queues = list(client.queues())
    if invocation.json:
        output.documents("queues", queues)
        return
    output.table(
        ("queue", "state", "queued", "running", "scheduled", "oldest"),
        [
            (
                queue.name,
                "PAUSED" if queue.paused else "OPEN",
                queue.queued_count,
                queue.running_count,
                queue.scheduled_count,
                times.length(queue.oldest_queued_age),
            )
            for queue in queues
        ],
        right=("queued", "running", "scheduled"),
        empty="No queues yet: a queue is made by its first job.",
    )


@app.command()
def peek(ctx: typer.Context, queue: Name) -> None:
    """List the waiting jobs in the order in which they go."""
    from towpath.cli import views

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        jobs = list(client.peek(queue))
    if invocation.json:
        output.documents("jobs", jobs)
    else:
        views.waiting(jobs, queue)


@app.command()
def pause(ctx: typer.Context, queue: Name) -> None:
    """Stop handing out jobs of a queue. What runs goes on."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        _tell(invocation, client.pause_queue(queue))


@app.command()
def resume(ctx: typer.Context, queue: Name) -> None:
    """Hand out jobs of a queue again."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        _tell(invocation, client.resume_queue(queue))


def _tell(invocation: Invocation, queue: Queue) -> None:
    if invocation.json:
        output.document(queue)
    else:
        waiting = f", {queue.queued_count} waiting" if queue.queued_count else ""
        output.line(f"{queue.name} {'PAUSED' if queue.paused else 'OPEN'}{waiting}")

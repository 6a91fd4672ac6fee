"""`towpath workers`: invite workers, look at them, drain and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invite import invite
from towpath.cli.invocation import Invocation

if TYPE_CHECKING:
    from towpath.fleet import Machine, Worker

app = typer.Typer(help="Invite workers, look at them and drain them.", no_args_is_help=True)

app.command()(invite)

WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id, wkr_...")]


@app.command("list")
def list_(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that are offline.")] = False,
) -> None:
    """List the workers that are connected."""
    from towpath.cli import times

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        workers = list(client.workers(include_offline=every))
    if invocation.json:
        output.documents("workers", workers)
        return
    output.table(
        ("id", "name", "state", "busy", "models", "job types", "last heard"),
        [
            (
                worker.worker_id,
                worker.name,
                worker.state,
                f"{worker.running_count}/{worker.slots}",
                worker.model_count,
                ", ".join(worker.job_types),
                times.moment(worker.heartbeat_time),
            )
            for worker in workers
        ],
        right=("busy", "models"),
        empty="No workers. Start one: towpath-worker --server HOST:PORT. Another machine: towpath workers invite."
        + ("" if every else " (offline ones: towpath workers list --all)"),
    )


@app.command()
def get(ctx: typer.Context, worker: WorkerId) -> None:
    """Show one worker and its machine."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found = client.worker(worker)
    if invocation.json:
        output.document(found)
    else:
        _show(found)


@app.command()
def drain(ctx: typer.Context, worker: WorkerId) -> None:
    """Let a worker finish what it runs and then stop."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found = client.drain_worker(worker)
    if invocation.json:
        output.document(found)
    else:
        output.line(f"{found.worker_id} {found.state}, {found.running_count} running")


@app.command()
def remove(ctx: typer.Context, worker: WorkerId) -> None:
    """Forget a worker: what it runs goes to others, and its credential is revoked."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        revoked = client.remove_worker(worker)
    if invocation.json:
        output.document({"worker_id": worker, "revoked_token_id": revoked})
    elif revoked:
        output.line(f"{worker} removed; its credential {revoked} is revoked")
    else:
        output.line(
            f"{worker} removed. It came with a token that others use too and may come back: stop towpath-worker there."
        )


def _show(worker: Worker) -> None:
    from towpath.cli import times
    from towpath.enums import WorkerShare

    machine, load = worker.machine, worker.load
    output.fields(
        [
            ("worker", worker.worker_id),
            ("name", worker.name),
            ("user", worker.user),
            ("runs jobs of", "its tenant" if worker.share is WorkerShare.TENANT else worker.user),
            ("state", worker.state),
            ("slots", f"{worker.running_count} of {worker.slots} busy"),
            ("job types", ", ".join(worker.job_types)),
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(worker.labels.items()))),
            ("models", worker.model_count),
            *(_machine(machine) if machine else ()),
            ("load", f"{load.cpu_percent:.0f} % CPU, {load.memory_used_mb} MiB" if load else ""),
            ("version", worker.version),
            ("connected", times.moment(worker.connect_time)),
            ("last heard", times.moment(worker.heartbeat_time)),
        ]
    )


def _machine(machine: Machine) -> list[tuple[str, object]]:
    return [
        ("machine", ", ".join(part for part in (machine.hostname, machine.platform) if part)),
        ("cores", machine.cpu_count or ""),
        ("memory", f"{machine.memory_mb} MiB" if machine.memory_mb else ""),
        ("GPUs", ", ".join(f"{gpu.name} ({gpu.memory_mb} MiB)" for gpu in machine.gpus)),
        ("python", machine.python_version),
    ]

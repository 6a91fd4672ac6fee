"""`towpath whoami | stats | version`."""

from __future__ import annotations

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation


def whoami(ctx: typer.Context) -> None:
    """Show whose token this is, and which scheduler answers."""
    from towpath.cli import times

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        token, server = client.whoami(), client.server_info()
    if invocation.json:
        output.document({"token": token.to_dict(), "server": server.to_dict()})
        return
    output.fields(
        [
            ("user", token.user),
            ("tenant", token.tenant),
            ("role", token.role.lower()),
            ("token", f"{token.token_id} ({token.name})"),
            ("expires", times.moment(token.expire_time)),
            ("scheduler", f"{server.scheduler_id}, towpath {server.version}, {server.store}"),
            ("started", times.moment(server.start_time)),
        ]
    )


def stats(ctx: typer.Context) -> None:
    """Count jobs, workers and slots."""
    from towpath.cli import times

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        jobs, server = client.stats(), client.server_stats()
    if invocation.json:
        output.document({"jobs": jobs.to_dict(), "server": server.to_dict()})
        return
    output.table(
        ("jobs", "count"),
        [*((one.state, one.count) for one in jobs.states), ("all", jobs.total_count)],
        right=("count",),
    )
    output.line()
    output.fields(
        [
            ("active", jobs.active_count),
            ("oldest waits", times.length(jobs.oldest_queued_age)),
            ("workers", server.worker_count),
            ("slots", f"{server.free_slot_count} of {server.slot_count} free"),
            ("polls parked", server.parked_poll_count),
            ("up for", times.length(server.uptime)),
        ]
    )


def version(ctx: typer.Context) -> None:
    """Show the version of this client."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        found = installed("towpath")
    except PackageNotFoundError:
        found = "unknown"
    if Invocation.of(ctx).json:
        output.document({"version": found})
    else:
        output.line(f"towpath {found}")

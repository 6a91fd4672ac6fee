"""`towpath quotas`: how much tenants and their users may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation

if TYPE_CHECKING:
    from towpath.fleet import Quota, QuotaUse

app = typer.Typer(help="How much tenants and their users may have.", no_args_is_help=True)

Tenant = Annotated[
    str, typer.Argument(metavar="[TENANT]", help="The tenant. Without it: each tenant that has no quota of its own.")
]
User = Annotated[str, typer.Option(help="This user of the tenant alone. Without it: all its users together.")]
NO_LIMIT = "-"


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List quotas, with what of them is in use."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        uses = list(client.quotas())
    if invocation.json:
        output.documents("quotas", uses)
        return
    columns = ("queued", "running", "calls/min", "result bytes", "log bytes")
    output.table(
        ("tenant", "user", *columns),
        [_row(one) for one in uses],
        right=columns,
        empty="No quotas: everybody may have as much as there is. Set one: towpath quotas set TENANT --queued 1000",
    )


@app.command("set")
def set_(
    ctx: typer.Context,
    tenant: Tenant = "",
    user: User = "",
    queued: Annotated[int | None, typer.Option(min=0, help="Jobs that wait, whatever for.")] = None,
    running: Annotated[int | None, typer.Option(min=0, help="Jobs on workers. What is beyond waits.")] = None,
    requests: Annotated[int | None, typer.Option(min=0, help="Calls in a minute.")] = None,
    result_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes of results that are kept.")] = None,
    log_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes of logs that are kept.")] = None,
) -> None:
    """Set a quota, in the place of the one that was there. What is not named has no limit."""
    limits = {
        "max_queued": queued,
        "max_running": running,
        "max_requests_per_minute": requests,
        "max_result_bytes": result_bytes,
        "max_log_bytes": log_bytes,
    }
    if all(limit is None for limit in limits.values()):
        raise typer.BadParameter(
            "name a limit at least, as --queued 1000. `towpath quotas delete` takes a quota away.",
            param_hint="--queued",
        )
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        quota: Quota = client.set_quota(tenant, user, **limits)
    if invocation.json:
        output.document(quota)
    else:
        said = ", ".join(f"{name} {limit:,}" for name, limit in limits.items() if limit is not None)
        output.line(f"{_whose(quota.tenant, quota.user)}: {said.replace('_', ' ')}")


@app.command()
def delete(ctx: typer.Context, tenant: Tenant = "", user: User = "") -> None:
    """Take a quota away."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        client.delete_quota(tenant, user)
    if invocation.json:
        output.document({"tenant": tenant, "user": user})
    else:
        output.line(f"{_whose(tenant, user)}: no quota any more")


def _row(one: QuotaUse) -> tuple[str, ...]:
    quota = one.quota
    # What is in use of the quota of all the others together nobody has counted.
    shown = bool(quota.tenant)
    return (
        quota.tenant or "(each other)",
        quota.user or "(all)",
        _use(one.queued_count, quota.max_queued, shown=shown),
        _use(one.running_count, quota.max_running, shown=shown),
        NO_LIMIT if quota.max_requests_per_minute is None else f"{quota.max_requests_per_minute:,}",
        _use(one.result_bytes, quota.max_result_bytes, shown=shown),
        _use(one.log_bytes, quota.max_log_bytes, shown=shown),
    )


def _use(in_use: int, limit: int | None, *, shown: bool) -> str:
    said = NO_LIMIT if limit is None else f"{limit:,}"
    return f"{in_use:,} of {said}" if shown and limit is not None else said


def _whose(tenant: str, user: str) -> str:
    if not tenant:
        return "Each tenant without a quota of its own"
    return f"{user} of {tenant}" if user else f"All of {tenant} together"

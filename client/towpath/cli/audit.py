"""`towpath audit`: who did what, when, and from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation

if TYPE_CHECKING:
    from towpath.fleet import AuditEvent


def audit(
    ctx: typer.Context,
    action: Annotated[
        str, typer.Option(metavar="ACTION", help="Only this, as job.cancelled; token. for all that begin so.")
    ] = "",
    user: Annotated[str, typer.Option(help="Only what this user did.")] = "",
    subject: Annotated[str, typer.Option(metavar="ID", help="Only what was done to this job, token or worker.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")] = 50,
) -> None:
    """List who did what, the newest first: tokens, refused logins, cancellations, workers, queues, quotas."""
    from towpath.cli import times

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        events = list(client.audit(action=action, user=user, subject=subject, limit=limit))
    if invocation.json:
        output.documents("events", events)
        return
    output.table(
        ("when", "who", "from", "action", "subject", "details"),
        [
            (times.moment(one.event_time), _who(one), one.origin, one.action, one.subject, _details(one))
            for one in events
        ],
        empty="Nothing is recorded that fits.",
    )


def _who(event: AuditEvent) -> str:
    return f"{event.user}@{event.tenant}" if event.user or event.tenant else ""


def _details(event: AuditEvent) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in sorted(event.details.items()))


def _quoted(text: str) -> str:
    """A text that could be taken for more than one value, in quotes."""
    plain = text and not any(char.isspace() or char in '="' for char in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""The options that every command which submits a job has."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any

import typer

from towpath.cli.names import OnConflict, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """Where, when and how often a job runs."""

    queue: Annotated[str, typer.Option(help="The queue.")] = "default"
    priority: Annotated[Priority, typer.Option(case_sensitive=False, help="Which waiting job goes first.")] = (
        Priority.NORMAL
    )
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="To find it by; may be given again.")
    ] = None
    workspace: Annotated[str, typer.Option(help="A name to list by.")] = ""
    delay: Annotated[str, typer.Option(metavar="DURATION", help="Run not before, as 10m.")] = ""
    at: Annotated[datetime | None, typer.Option("--at", help="Run not before this moment, local time.")] = None
    queue_timeout: Annotated[str, typer.Option(metavar="DURATION", help="Longest wait in the queue.")] = ""
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Longest run of one attempt.")] = ""
    stall_timeout: Annotated[str, typer.Option(metavar="DURATION", help="Longest silence of an attempt.")] = ""
    total_timeout: Annotated[str, typer.Option(metavar="DURATION", help="Longest time in all.")] = ""
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="Time to stop by itself before it is killed.")
    ] = ""
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it is kept when it is final.")] = ""
    retries: Annotated[int, typer.Option(min=0, max=999, help="Further attempts when one fails.")] = 0
    worker: Annotated[str, typer.Option(metavar="WORKER", help="Only on this worker.")] = ""
    worker_label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only on workers with this label.")
    ] = None
    cpus: Annotated[int, typer.Option(min=0, help="Cores that the worker must have.")] = 0
    memory: Annotated[int, typer.Option(min=0, metavar="MIB", help="Memory that it must have.")] = 0
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that it must have.")] = 0
    request_id: Annotated[str, typer.Option(help="The same id again gives the same job.")] = ""

    dedupe_key: Annotated[
        str, typer.Option(metavar="KEY", help="At most one of your jobs that are not over has it.")
    ] = ""
    on_conflict: Annotated[
        OnConflict | None,
        typer.Option(case_sensitive=False, help="Where one has the key: fail, give that one, or cancel it."),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """As `Client.submit` takes them; what was not given is left out."""
        from towpath import Requirements
        from towpath.cli.parsing import pairs, seconds

        durations = {
            "delay": ("--delay", self.delay),
            "queue_timeout": ("--queue-timeout", self.queue_timeout),
            "execution_timeout": ("--timeout", self.timeout),
            "stall_timeout": ("--stall-timeout", self.stall_timeout),
            "total_timeout": ("--total-timeout", self.total_timeout),
            "cancel_grace": ("--grace", self.grace),
            "ttl": ("--ttl", self.ttl),
        }
        found: dict[str, Any] = {name: seconds(text, option) for name, (option, text) in durations.items() if text}
        requirements = Requirements(
            cpu_count=self.cpus,
            memory_mb=self.memory,
            gpu_count=self.gpus,
            worker_labels=pairs(self.worker_label or (), "--worker-label"),
            worker_id=self.worker,
        )
        given: dict[str, Any] = {
            "queue": self.queue,
            "priority": self.priority.value,
            "labels": pairs(self.label or (), "--label"),
            "workspace": self.workspace,
            "schedule_time": self.at.astimezone() if self.at else None,
            "retries": self.retries,
            "requirements": requirements if requirements != Requirements() else None,
            "request_id": self.request_id,
            "dedupe_key": self.dedupe_key,
            "on_conflict": self.on_conflict.value if self.on_conflict else None,
        }
        return found | {name: value for name, value in given.items() if value}


def with_submit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the fields of SubmitOptions to a command, which gets them as its argument `options`."""
    own = inspect.signature(command).parameters
    hints = typing.get_type_hints(command, include_extras=True)
    added = typing.get_type_hints(SubmitOptions, include_extras=True)
    names = [field.name for field in fields(SubmitOptions)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = SubmitOptions(**{name: given.pop(name) for name in names})
        command(**given, options=options)

    kept = [one.replace(annotation=hints[name]) for name, one in own.items() if name != "options"]
    more = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=added[field.name]
        )
        for field in fields(SubmitOptions)
    ]
    parameters = kept + more
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    del run.__wrapped__
    return run

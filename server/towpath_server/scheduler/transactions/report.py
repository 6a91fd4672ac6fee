"""Taking in what workers tell. A stale lease changes nothing; a repeated report changes nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from towpath_server.core.errors import IllegalTransition, LeaseSuperseded, TowpathError
from towpath_server.core.events import Adopted, Failed, Progressed, Released, Succeeded
from towpath_server.core.records import LogChunk, ModelRecord, Worker
from towpath_server.scheduler.changes import Change, Changes
from towpath_server.scheduler.messages import HeldLease, Logged, Report, WorkerEvent
from towpath_server.scheduler.transactions.models import free
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb

# After one of these the worker does not run the job any more.
OUTCOMES = (Succeeded, Failed, Released)


@dataclass(frozen=True, slots=True)
class ReportItem:
    """Reports of one session in the order of their sequence."""

    worker_id: int
    session_id: str
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """What came of them: the last sequence, what changed, whose lease is over, which jobs logged, which models came.

    Of the outcomes: whose counts, now or since it was told before, and whose came too late.
    """

    sequence: int
    changes: tuple[Change, ...]
    superseded: tuple[HeldLease, ...]
    logged: tuple[int, ...]
    models: tuple[ModelRecord, ...]
    accepted: tuple[HeldLease, ...] = ()
    refused: tuple[HeldLease, ...] = ()


def run(store: Store, now: int, items: Sequence[ReportItem]) -> list[Reported | TowpathError]:
    """Apply all reports in order; each job is written once however much was told of it."""
    changes = Changes.load(store, (report.job_id for item in items for report in item.reports), now)
    logs: list[LogChunk] = []
    for item in items:
        _bring_home(store, changes, item)
    outcomes = [_take_in(item, changes, logs) for item in items]
    outcomes = [replace(outcome, models=_kept(store, outcome.models)) for outcome in outcomes]
    if logs:
        store.append_logs(logs)
    models = [model for outcome in outcomes for model in outcome.models]
    if models:
        store.put(models)
    by_id = {change.after.job_id: change for change in changes.save() if change.after is not None}
    results: list[Reported | TowpathError] = []
    for item, outcome in zip(items, outcomes, strict=True):
        mine = dict.fromkeys(report.job_id for report in item.reports)
        told = tuple(by_id.pop(job_id) for job_id in mine if job_id in by_id)
        results.append(replace(outcome, changes=told))
    return results


def _bring_home(store: Store, changes: Changes, item: ReportItem) -> None:
    """A worker may have come here while another scheduler gave it a job under the session of before: it goes on."""
    for report in item.reports:
        job = changes.get(report.job_id)
        if job is None or job.lease is None or job.lease.session_id == item.session_id:
            continue
        if (job.lease.worker_id, job.lease.token) != (item.worker_id, report.event.token):
            continue
        # The one that tells may be of before, too.
        if any(worker.session_id == item.session_id for worker in store.records(Worker, [(item.worker_id,)])):
            changes.apply(report.job_id, Adopted(job.lease.token, item.session_id))


def _take_in(item: ReportItem, changes: Changes, logs: list[LogChunk]) -> Reported:
    superseded: dict[HeldLease, None] = {}
    accepted: dict[HeldLease, None] = {}
    refused: dict[HeldLease, None] = {}
    models: list[ModelRecord] = []
    logged: dict[int, None] = {}
    for report in item.reports:
        lease, is_outcome = HeldLease(report.job_id, report.event.token), isinstance(report.event, OUTCOMES)
        try:
            job = changes.get(report.job_id)
            # A lease is worth nothing to another worker that got hold of it.
            if job is None or job.worker_id != item.worker_id:
                raise LeaseSuperseded(job_id=report.job_id)
            if isinstance(report.event, Logged):
                logs.append(_log(report.job_id, report.event, changes))
                logged[report.job_id] = None
                continue
            before = changes.get(report.job_id)  # As the reports in front of this one left it.
            after = changes.apply(report.job_id, report.event, reported=True)
            if is_outcome:
                accepted[lease] = None
            if report.model is not None and after is not before:
                definition = after.definition
                models.append(
                    replace(report.model, worker_id=item.worker_id, tenant=definition.tenant, user=definition.user)
                )
        except (LeaseSuperseded, IllegalTransition):
            superseded[lease] = None
            if is_outcome:
                refused[lease] = None
    # What is told again before an outcome that counts is late too, and no reason to give the outcome up.
    late = tuple(lease for lease in superseded if lease not in accepted)
    sequence = item.reports[-1].sequence if item.reports else 0
    return Reported(sequence, (), late, tuple(logged), tuple(models), tuple(accepted), tuple(refused))


def _kept(store: Store, models: tuple[ModelRecord, ...]) -> tuple[ModelRecord, ...]:
    # All are of one worker. Where that was removed meanwhile, nothing is left that holds them.
    if not models or not store.records(Worker, [(models[0].worker_id,)]):
        return ()
    return tuple(free(store, models))


def _log(job_id: int, event: Logged, changes: Changes) -> LogChunk:
    job = changes.get(job_id)
    if job is None or job.lease is None or not event.token or job.lease.token != event.token:
        raise LeaseSuperseded(job_id=job_id)
    if job.definition.timeouts.stall is not None and job.start_time is not None:
        changes.apply(job_id, Progressed(event.token, None), reported=True)
    return LogChunk(
        job_id=job_id, attempt=job.attempt, offset=event.offset, text=event.text, stream=event.stream, time=event.time
    )


def _weight(item: ReportItem) -> int:
    return sum(_bytes(report.event) for report in item.reports)


def _bytes(event: WorkerEvent) -> int:
    if isinstance(event, Succeeded):
        return len(event.result)
    return len(event.text) if isinstance(event, Logged) else 0


REPORT = Verb("report", run, weigh=_weight)

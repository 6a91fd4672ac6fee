"""Creating jobs: idempotent by request_id, at most one alive by dedupe key, and already leased where a worker waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from towpath_server.core import lifecycle
from towpath_server.core.errors import InvalidArgument, RequestIdReused, TowpathError, Violation
from towpath_server.core.events import Cancel, Claimed
from towpath_server.core.evolve import evolve
from towpath_server.core.ids import show
from towpath_server.core.job import ConflictPolicy, Definition, Job, Lease, Priority
from towpath_server.core.records import Lane, Queue
from towpath_server.scheduler.changes import Change, Changes
from towpath_server.scheduler.transactions.dedupe import DedupeKey, conflict, dedupe_key, find_holders
from towpath_server.store.base import ByRequest, Store
from towpath_server.store.committer import Verb

RequestKey = tuple[str, str, str]
# What a job counts for beside what its submitter wrote (bytes), and how much goes ahead of larger calls: some 30 jobs.
ROW, SMALL = 512, 16 * 1024


class Draft(NamedTuple):
    """A job that is to be, with the lease that it is born with where a worker was waiting."""

    job_id: int
    definition: Definition
    lane_id: int
    priority: Priority
    on_conflict: ConflictPolicy = ConflictPolicy.REJECT
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class CreateItem:
    """All jobs of one call, with the lanes and queues that may be new with them."""

    drafts: tuple[Draft, ...]
    lanes: tuple[Lane, ...] = ()
    queues: tuple[Queue, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """The jobs in the order of the drafts; only those in `changes` are new, or were replaced by these."""

    jobs: tuple[Job, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of one call: the job that answers for each draft, the new jobs, and who makes way for which."""

    answers: list[int]
    born: dict[int, Draft]
    replaced: dict[int, int]


def run(store: Store, now: int, items: Sequence[CreateItem]) -> list[Created | TowpathError]:
    """Create the jobs of each item, all of them or none, one item after the other."""
    creation = _Creation(store, items)
    plans = [creation.plan(item) for item in items]
    carried = [item for item, plan in zip(items, plans, strict=True) if isinstance(plan, _Plan)]
    lanes = {lane.lane_id: lane for item in carried for lane in item.lanes}
    queues = {(queue.tenant, queue.name): queue for item in carried for queue in item.queues}
    if lanes:
        store.add_lanes(list(lanes.values()))
    if queues:
        # One that is there already stays as it is: it may have been paused meanwhile.
        store.put(list(queues.values()), replace=False)
    return creation.carry_out(store, now, plans)


class _Creation:
    """The jobs of one transaction, while it is decided which of them are born."""

    def __init__(self, store: Store, items: Sequence[CreateItem]) -> None:
        drafts = [draft for item in items for draft in item.drafts]
        known = _known(store, drafts)
        holders = find_holders(store, [draft.definition for draft in drafts])
        self._stored = {job.job_id: job for job in (*known, *holders)}
        self._holders = {dedupe_key(job.definition): job.job_id for job in holders}
        self._known = {_request_key(job.definition): (job.job_id, job.definition.request_hash) for job in known}

    def plan(self, item: CreateItem) -> _Plan | TowpathError:
        """Decide on one call, as if those before it were carried out."""
        # What this call would change; forgotten where it is refused.
        known, holders = dict[RequestKey | None, tuple[int, bytes]](), dict[DedupeKey | None, int]()
        plan = _Plan([], {}, {})
        wrong: list[Violation] = []
        for index, draft in enumerate(item.drafts):
            definition = draft.definition
            request, key = _request_key(definition), dedupe_key(definition)
            if request is not None and (seen := known.get(request) or self._known.get(request)):
                if seen[1] != definition.request_hash:
                    return RequestIdReused(request_id=definition.request_id)
                plan.answers.append(seen[0])
                continue
            holder = (holders.get(key) or self._holders.get(key)) if key is not None else None
            if holder is not None and draft.on_conflict is ConflictPolicy.RETURN_EXISTING:
                plan.answers.append(holder)
                continue
            if holder is not None and draft.on_conflict is ConflictPolicy.REJECT:
                if holder not in plan.born:
                    return conflict(definition, holder)
                wrong.append(_twice(index))
            elif holder is not None:
                plan.replaced[holder] = draft.job_id
            plan.answers.append(draft.job_id)
            plan.born[draft.job_id] = draft
            if request is not None:
                known[request] = (draft.job_id, definition.request_hash)
            if key is not None:
                holders[key] = draft.job_id
        if wrong:
            return InvalidArgument(tuple(wrong))
        self._known.update(known)
        self._holders.update(holders)
        return plan

    def carry_out(self, store: Store, now: int, plans: Sequence[_Plan | TowpathError]) -> list[Created | TowpathError]:
        """Write what was planned."""
        carried = [plan for plan in plans if isinstance(plan, _Plan)]
        replaced = {old: new for plan in carried for old, new in plan.replaced.items()}
        moved = Changes(store, self._stored, now)
        for old in self._stored:
            if old in replaced:
                moved.apply(old, _replaced_by(replaced[old]))
        # These go before those that take their place: at no moment do two jobs have one key.
        ended = {change.after.job_id: change for change in moved.save() if change.after is not None}
        born = {
            job_id: _born(draft, now, store.sequence(now), replaced.get(job_id))
            for plan in carried
            for job_id, draft in plan.born.items()
        }
        if born:
            store.insert(list(born.values()))
        jobs = {job.job_id: job for job in moved.jobs()} | born
        return [
            Created(
                tuple(jobs[job_id] for job_id in plan.answers),
                # A new job that was replaced at once is told of by the call that made it.
                (
                    *(ended[old] for old in plan.replaced if old in ended),
                    *(Change(None, born[job_id]) for job_id in plan.born),
                ),
            )
            if isinstance(plan, _Plan)
            else plan
            for plan in plans
        ]


def _born(draft: Draft, now: int, sequence: int, replaced_by: int | None) -> Job:
    job = lifecycle.create(draft.job_id, draft.definition, draft.lane_id, draft.priority, now)
    if replaced_by is not None:
        job = lifecycle.apply(job, _replaced_by(replaced_by), now)
    elif draft.lease is not None:
        job = lifecycle.apply(job, Claimed(draft.lease), now)
    return evolve(job, sequence=sequence)


def _replaced_by(job_id: int) -> Cancel:
    return Cancel(f"replaced by {show('job', job_id)}", force=True)


def _twice(index: int) -> Violation:
    field = f"requests[{index}].job.dedupe_key"
    return Violation(field, "another job of this call has it: leave one out, or set another conflict policy")


def _request_key(definition: Definition) -> RequestKey | None:
    if not definition.request_id:
        return None
    return (definition.tenant, definition.user, definition.request_id)


def _known(store: Store, drafts: Sequence[Draft]) -> list[Job]:
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for draft in drafts:
        definition = draft.definition
        if definition.request_id:
            asked.setdefault((definition.tenant, definition.user), {})[definition.request_id] = None
    return [
        job
        for (tenant, user), request_ids in asked.items()
        for job in store.find(ByRequest(tenant, user, tuple(request_ids)), len(request_ids))
    ]


def _weight(item: CreateItem) -> int:
    return sum(ROW + len(draft.definition.spec) + len(draft.definition.annotations) for draft in item.drafts)


CREATE = Verb("create", run, weigh=_weight, small=SMALL)

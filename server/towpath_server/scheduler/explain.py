"""Why a job does not run, answered by the code that hands out jobs."""

from __future__ import annotations

from towpath_server.core.job import SECOND, Job, JobState
from towpath_server.core.matching import Profile, misfits
from towpath_server.core.matching import profile as profile_of
from towpath_server.core.records import Principal, Worker
from towpath_server.scheduler import presence
from towpath_server.scheduler.messages import Explanation, Fit
from towpath_server.scheduler.state import State
from towpath_server.store.base import Matching

MOST_COUNTED = 10_000


async def explain(state: State, principal: Principal, job: Job) -> Explanation:
    """The job's place, and each worker that the caller may use with what stands against it."""
    position = await _position(state, job) if job.state is JobState.QUEUED else 0
    lane = state.board.obtain(job.definition)
    workers = [worker for worker in state.workers.values() if principal.may_use(worker)]
    fits = tuple(Fit(worker, _against(state, job, worker)) for worker in sorted(workers, key=_newest))
    could = [fit for fit in fits if not misfits(lane, _profile(state, fit.worker), fit.worker.worker_id)]
    return Explanation(_summary(state, job, position, fits, could), position, fits)


def _newest(worker: Worker) -> int:
    return -worker.connect_time


def _profile(state: State, worker: Worker) -> Profile:
    session = state.sessions.of_worker(worker.worker_id)
    if session is not None:
        return session.profile
    return profile_of(worker, (model.model_id for model in state.catalogue.on_worker(worker.worker_id)))


def _against(state: State, job: Job, worker: Worker) -> tuple[str, ...]:
    lane = state.board.obtain(job.definition)
    reasons = list(misfits(lane, _profile(state, worker), worker.worker_id))
    seen = presence.seen(state, worker)
    if seen is None:
        reasons.insert(0, "is offline")
    elif seen.draining:
        reasons.insert(0, "is draining")
    elif seen.running >= worker.slots:
        reasons.insert(0, f"all {worker.slots} slots are busy")
    return tuple(reasons)


async def _position(state: State, job: Job) -> int:
    definition = job.definition
    query = Matching(tenant=definition.tenant, queue=definition.queue, states=(JobState.QUEUED,), dispatch_order=True)
    waiting = await state.committer.scan(lambda store: store.find(query, MOST_COUNTED))
    places = {other.job_id: place for place, other in enumerate(waiting, start=1)}
    return places.get(job.job_id, MOST_COUNTED if len(waiting) == MOST_COUNTED else 0)


def _summary(state: State, job: Job, position: int, fits: tuple[Fit, ...], could: list[Fit]) -> str:
    if job.state is JobState.SCHEDULED:
        wait = max((job.queue_time or 0) - state.clock.wall(), 0) / SECOND
        return f"It is due in {wait:.0f} s. {job.state_reason}".strip()
    if job.state is not JobState.QUEUED:
        return f"It is {job.state.name}. {job.state_reason}".strip()
    if state.board.is_paused(state.board.obtain(job.definition)):
        return f"Its queue {job.definition.queue} is paused. Resume it: `towpath queues resume {job.definition.queue}`."
    if why := state.allowance.why_held(state.board.obtain(job.definition)) if state.allowance.is_on else "":
        return f"{why[0].upper()}{why[1:]}: it goes on when one of them ends. See `towpath quotas list`."
    if not fits:
        return "You have no worker. Start one: `towpath-worker --server HOST:PORT`."
    if not could:
        return "None of your workers can run it."
    ready = [fit for fit in could if not fit.reasons]
    if ready:
        return f"{len(ready)} of your workers can run it now; it is number {position} in its queue."
    if all(fit.reasons[0] == "is offline" for fit in could):
        return "The workers that can run it are offline."
    if all(fit.reasons[0] in ("is offline", "is draining") for fit in could):
        return "The workers that can run it take no more jobs: they are draining or offline."
    return f"The workers that can run it are busy; it is number {position} in its queue."

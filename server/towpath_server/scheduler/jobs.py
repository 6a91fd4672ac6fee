"""The verbs of those who submit jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from towpath_server.core.attempts import last_attempt
from towpath_server.core.events import Cancel, Changed, Event, Pause, Resume, Retry
from towpath_server.core.evolve import evolve
from towpath_server.core.ids import show
from towpath_server.core.job import Attempt, Definition, Job, JobState, Lease, Priority
from towpath_server.core.records import Head, Principal, Queue
from towpath_server.scheduler import audit
from towpath_server.scheduler.explain import explain
from towpath_server.scheduler.filters import matching
from towpath_server.scheduler.follow import Follow
from towpath_server.scheduler.messages import Explanation, JobFilter, NewJob, Stats
from towpath_server.scheduler.quotas import demand_retry, demand_room
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.claim import MOST_BYTES, job_bytes
from towpath_server.scheduler.transactions.control import COMMAND, DELETE, Command, Deletion
from towpath_server.scheduler.transactions.create import CREATE, CreateItem, Draft
from towpath_server.scheduler.waiters import Waiter
from towpath_server.store.base import Count


class Jobs(Follow):
    """Creating, finding and moving jobs; following them is in `Follow`."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._state = state

    async def create(self, principal: Principal, new: Sequence[NewJob]) -> list[Job]:
        """Create all of the jobs or none; they are on disk when this returns.

        A job whose request_id was seen before is not created again. Raises `ModelNotFound`, `RequestIdReused`,
        `DedupeConflict`, `QuotaExceeded`.
        """
        self._state.refuse_when_draining()
        return await self._state.carry_out(self._create(principal, new))

    async def _create(self, principal: Principal, new: Sequence[NewJob]) -> list[Job]:
        if self._state.allowance.is_on:
            await demand_room(self._state, principal, new)
        now = self._state.clock.wall()
        drafts = [self._draft(principal, one, now) for one in new]
        handed = self._hand_out(drafts, now)
        item = self._item([handed.get(draft.job_id, (draft, None))[0] for draft in drafts], now)
        try:
            created = await self._state.committer.submit(CREATE, item)
            self._state.board.saved(item.lanes)
            for queue in item.queues:
                self._state.unsaved_queues.pop((queue.tenant, queue.name), None)
                self._state.queues.setdefault((queue.tenant, queue.name), queue)
            self._state.absorb(created.changes)
        except BaseException:
            for _, waiter in handed.values():
                waiter.hand([])
            for queue in item.queues:
                # Another create that is under way brings it too, and keeps it.
                if self._state.unsaved_queues.pop((queue.tenant, queue.name), None) is not None:
                    del self._state.queues[queue.tenant, queue.name]
            raise
        finally:
            self._state.allowance.forget(draft.job_id for draft in drafts)
        born = {change.after.job_id: change.after for change in created.changes if change.after is not None}
        leased: dict[Waiter, list[Job]] = {waiter: [] for _, waiter in handed.values()}
        for job_id, (_, waiter) in handed.items():
            # Some were not born: another job answers for them. Some were replaced as soon as they were born.
            if job_id in born and born[job_id].lease is not None:
                leased[waiter].append(born[job_id])
        for waiter, jobs in leased.items():
            waiter.hand(jobs)
        return list(created.jobs)

    def _draft(self, principal: Principal, new: NewJob, now: int) -> Draft:
        requirements = new.definition.requirements
        if new.model:
            requirements = replace(
                requirements, model_id=self._state.catalogue.own_model(principal, new.model).model_id
            )
        definition = evolve(
            new.definition,
            tenant=principal.tenant,
            user=principal.user,
            create_time=now,
            requirements=requirements,
        )
        lane = self._state.board.obtain(definition)
        return Draft(self._state.ids.next(), definition, lane.lane_id, new.priority, new.on_conflict)

    def _hand_out(self, drafts: list[Draft], now: int) -> dict[int, tuple[Draft, Waiter]]:
        """Give drafts to parked polls, the best first; the others are put on the board.

        While a poll is parked nothing waits that it serves, so nobody is passed over.
        """
        handed: dict[int, tuple[Draft, Waiter]] = {}
        # By lane: who takes its jobs, until they have enough; None: nobody, and the board says that it has work.
        takers: dict[int, Waiter | None] = {}
        # What is on its way to each: no more at once than one answer can carry, and one job in any case.
        given: dict[Waiter, int] = {}
        allowance = self._state.allowance
        for draft in sorted(drafts, key=lambda one: (-one.priority, one.job_id)):
            later = draft.definition.schedule_time
            if later is not None and later > now:
                continue
            size = job_bytes(draft.definition)
            known = takers.get(draft.lane_id)
            if known is not None and given[known] + size > MOST_BYTES:
                takers = self._without(takers, known)
            if draft.lane_id not in takers:
                takers[draft.lane_id] = self._taker(draft)
            waiter = takers[draft.lane_id]
            if waiter is not None and allowance.is_on and not self._expect(draft, running=True):
                # No more of this user's may run: this one waits, and so do those behind it.
                takers[draft.lane_id] = waiter = None
                self._state.board.push(draft.lane_id, Head(draft.priority, -draft.job_id))
            if waiter is None:
                continue
            given[waiter] = given.get(waiter, 0) + size
            worker = waiter.session.worker
            lease = Lease(self._state.new_token(), worker.worker_id, worker.session_id)
            handed[draft.job_id] = (draft._replace(lease=lease), waiter)
            waiter.free -= 1
            if waiter.free == 0:
                takers = self._without(takers, waiter)
        for waiter in dict.fromkeys(waiter for _, waiter in handed.values()):
            self._state.waiters.leave(waiter)
        for draft in drafts if allowance.is_on else ():
            if draft.job_id not in handed:
                self._expect(draft, running=False)
        return handed

    def _expect(self, draft: Draft, *, running: bool) -> bool:
        definition = draft.definition
        return self._state.allowance.expect(draft.job_id, definition.tenant, definition.user, running=running)

    def _without(self, takers: dict[int, Waiter | None], full: Waiter) -> dict[int, Waiter | None]:
        self._state.waiters.leave(full)
        return {lane_id: taker for lane_id, taker in takers.items() if taker is not full}

    def _taker(self, best: Draft) -> Waiter | None:
        lane = self._state.board.lane(best.lane_id)
        # Where a limit has kept jobs waiting though polls are parked, a new one waits behind them.
        overtakes = self._state.allowance.is_on and self._state.board.has_work(lane)
        waiter = None if overtakes or self._state.board.holds_back(lane) else self._state.waiters.first(lane)
        if waiter is None:
            self._state.board.push(lane.lane_id, Head(best.priority, -best.job_id))
        return waiter

    def _item(self, drafts: list[Draft], now: int) -> CreateItem:
        lanes = [self._state.board.lane(lane_id) for lane_id in dict.fromkeys(draft.lane_id for draft in drafts)]
        queues: dict[tuple[str, str], Queue] = {}
        for lane in lanes:
            key = (lane.tenant, lane.queue)
            if key not in self._state.queues:
                queue = Queue(tenant=key[0], name=key[1], create_time=now)
                self._state.queues[key] = self._state.unsaved_queues[key] = queue
            if key in self._state.unsaved_queues:
                queues[key] = self._state.unsaved_queues[key]
        return CreateItem(tuple(drafts), self._state.board.unsaved(lanes), tuple(queues.values()))

    async def find(
        self, principal: Principal, wanted: JobFilter, limit: int, after: int | None, ascending: bool
    ) -> list[Job]:
        """At most `limit` of the jobs that this caller may see, newest first unless `ascending`."""
        query = replace(matching(principal, wanted), after=after, ascending=ascending)
        return await self._state.committer.scan(lambda store: store.find(query, limit))

    async def update(
        self,
        principal: Principal,
        job_id: int,
        change: Callable[[Definition, Priority], tuple[Definition, Priority]],
        revision: int | None,
    ) -> Job:
        """Change what a job asks for. Raises `Conflict` where it is not at that revision any more."""
        return await self._command(
            principal, job_id, lambda job: Changed(*change(job.definition, job.priority)), revision
        )

    async def cancel(self, principal: Principal, job_id: int, reason: str, force: bool, *, call: int = 0) -> Job:
        """Cancel a job; one that is final stays as it is. `call` is the same for all jobs of one call, if any."""
        told = audit.event(self._state, principal, audit.JOB_CANCELLED, show("job", job_id), reason=reason)
        cancel = Command(principal, job_id, lambda job: Cancel(reason, force), None, told, call)
        return await self._state.carry_out(self._move(cancel))

    def new_call(self) -> int:
        """A number for a call that asks the same of many jobs."""
        return self._state.event_ids.next()

    async def pause(self, principal: Principal, job_id: int) -> Job:
        """Hold a job back."""
        return await self._command(principal, job_id, lambda job: Pause())

    async def resume(self, principal: Principal, job_id: int) -> Job:
        """Let a paused job go on."""
        return await self._command(principal, job_id, lambda job: Resume())

    async def retry(self, principal: Principal, job_id: int, revision: int | None = None) -> Job:
        """Queue a final job again, behind those that wait. Raises `DedupeConflict` where another one has its key.

        Raises `QuotaExceeded` too.
        """
        if self._state.allowance.is_on and (job := await self.get(principal, job_id)).state.is_final:
            demand_retry(self._state, job)
        position = self._state.ids.next()
        return await self._command(principal, job_id, lambda job: Retry(position), revision)

    async def delete(self, principal: Principal, job_id: int) -> None:
        """Delete a final job. Raises `NotFinal`."""
        told = audit.event(self._state, principal, audit.JOB_DELETED, show("job", job_id))
        await self._state.carry_out(self._delete(Deletion(principal, job_id, told)))

    async def _delete(self, deletion: Deletion) -> None:
        await self._state.committer.submit(DELETE, deletion)

    async def attempts(self, principal: Principal, job_id: int) -> list[Attempt]:
        """The job's attempts, newest first, with the one under way."""
        job = await self.get(principal, job_id)
        past = await self._state.committer.read(lambda store: store.attempts(job_id))
        current = last_attempt(job)
        known = [attempt for attempt in past if current is None or attempt.number != current.number]
        return sorted(known + ([current] if current else []), key=lambda attempt: -attempt.number)

    async def explain(self, principal: Principal, job_id: int) -> Explanation:
        """Why the job does not run."""
        return await explain(self._state, principal, await self.get(principal, job_id))

    async def stats(self, principal: Principal, wanted: JobFilter) -> Stats:
        """How many jobs stand in which state."""
        query = matching(principal, wanted)
        counts = await self._state.committer.scan(lambda store: store.count(query))
        return summed(counts, self._state.clock.wall())

    async def _command(
        self, principal: Principal, job_id: int, event: Callable[[Job], Event], revision: int | None = None
    ) -> Job:
        return await self._state.carry_out(self._move(Command(principal, job_id, event, revision)))

    async def _move(self, command: Command) -> Job:
        outcome = await self._state.committer.submit(COMMAND, command)
        self._state.absorb(outcome.changes)
        return outcome.job

    async def get(self, principal: Principal, job_id: int) -> Job:
        """The job. Raises `JobNotFound`, also for another user's."""
        return await self._look(principal, job_id)


def summed(counts: Sequence[Count], now: int) -> Stats:
    """Counts by state alone."""
    by_state: dict[JobState, int] = {}
    for count in counts:
        by_state[count.state] = by_state.get(count.state, 0) + count.count
    oldest = [
        count.oldest_queue_time
        for count in counts
        if count.state is JobState.QUEUED and count.oldest_queue_time is not None
    ]
    return Stats(by_state, max(now - min(oldest), 0) if oldest else None)

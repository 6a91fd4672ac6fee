"""Mistakes in who may what: shared workers, quotas, workers that are removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

from support.seeding.table import bug
from towpath_server.core import matching
from towpath_server.core.matching import Profile
from towpath_server.core.records import Share
from towpath_server.scheduler import audit, demands, jobs
from towpath_server.scheduler.allowance import Allowance
from towpath_server.scheduler.changes import Change
from towpath_server.scheduler.fleet import Fleet
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions import claim, removal
from towpath_server.scheduler.waiters import Waiters
from towpath_server.scheduler.workers import Workers
from towpath_server.store.base import HeldBy


@bug("a worker that is shared looks for its own user's jobs only", first_seed=1)
def share_is_ignored() -> Iterator[None]:
    with patch.object(Profile, "serves_user", property(lambda self: self.user)):
        yield


@bug("a new job is handed to none of the shared workers that wait", first_seed=1)
def shared_workers_are_not_woken() -> Iterator[None]:
    def own(self: Waiters, lane: Any) -> Any:
        return self._ranks.get((lane.tenant, lane.user, lane.job_type), ())

    with patch.object(Waiters, "_lines_for", own):
        yield


@bug("a worker that is not shared is given the jobs of its whole tenant", first_seed=1)
def everybody_shares() -> Iterator[None]:
    with patch.object(Profile, "serves_user", None):
        yield


@bug("a shared worker is given the jobs of all tenants", first_seed=1)
def tenants_share() -> Iterator[None]:
    def misfits(lane: Any, worker: Profile, worker_id: int) -> tuple[str, ...]:
        return () if lane.job_type in worker.job_types else ("type",)

    def anchors(self: Any, lane: Any) -> Any:
        demand = of(self, lane)
        what = demand.anchors[0][2:]
        demand.anchors = (demand.anchors[0], ("", None, *what))
        return demand

    def looks(profile: Profile) -> Iterator[Any]:
        for anchor in found(profile):
            yield ("", *anchor[1:]) if profile.share is Share.TENANT else anchor

    of, found = demands.Demands.of, demands._looks
    with (
        patch.object(matching, "misfits", misfits),
        patch.object(demands.Demands, "of", anchors),
        patch.object(demands, "_looks", looks),
    ):
        yield


@bug("nobody is woken when a user of whom as many ran as may has room again", first_seed=2)
def room_wakes_nobody() -> Iterator[None]:
    settle = Allowance._settle

    def quiet(self: Allowance, touched: Any) -> None:
        with patch.object(Waiters, "wake", lambda self, lane, jobs: None):
            settle(self, touched)

    with patch.object(Allowance, "_settle", quiet):
        yield


@bug("who was held back stays so when the quota is raised or taken away", first_seed=2)
def raised_quota_lets_nobody_go() -> Iterator[None]:
    put = Allowance.put

    def quiet(self: Allowance, changed: Any, gone: Any = ()) -> None:
        with patch.object(Waiters, "wake_all", lambda self: None), patch.object(Allowance, "_settle", _nothing):
            put(self, changed, gone)

    with patch.object(Allowance, "put", quiet):
        yield


@bug("what a restart finds running counts for no quota", first_seed=2)
def restart_forgets_what_runs() -> Iterator[None]:
    adopt = Allowance.adopt

    def forgetful(self: Allowance, found: Mapping[Any, Any], **options: Any) -> None:
        if not self.quotas and not self.is_on:
            found = {owner: use._replace(running=0) for owner, use in found.items()}
        adopt(self, found, **options)

    with patch.object(Allowance, "adopt", forgetful):
        yield


@bug("a first quota counts what begins from then on, and not what is there", first_seed=2)
def first_quota_counts_from_zero() -> Iterator[None]:
    with patch.object(Allowance, "adopt", lambda self, found, **options: None):
        yield


@bug("a poll with many slots takes more than there is room for", first_seed=2)
def claim_takes_more_than_room() -> Iterator[None]:
    pop = claim._Capped.pop

    def greedy(self: Any) -> Any:
        rooms = dict(self._rooms)
        job = pop(self)
        self._rooms.update(rooms)
        return job

    with patch.object(claim._Capped, "pop", greedy):
        yield


@bug("two polls that come together are each given the whole room", first_seed=3)
def room_is_given_twice() -> Iterator[None]:
    with patch.object(Allowance, "reserve", lambda self, rooms, most: lambda: None):
        yield


@bug("a new job is handed to a poll that waits though no more of its user's may run", first_seed=109)
def birth_ignores_the_quota() -> Iterator[None]:
    expect = Allowance.expect

    def careless(self: Allowance, job_id: int, tenant: str, user: str, *, running: bool) -> bool:
        return expect(self, job_id, tenant, user, running=running) or True

    with patch.object(Allowance, "expect", careless):
        yield


@bug("a create that fails keeps what was reserved for it", first_seed=2)
def failed_create_keeps_its_place() -> Iterator[None]:
    count, forget = Allowance._count, Allowance.forget

    def counted(self: Allowance, change: Change, touched: Any) -> None:
        with patch.object(Allowance, "forget", forget):
            count(self, change, touched)

    with patch.object(Allowance, "forget", _nothing), patch.object(Allowance, "_count", counted):
        yield


@bug("a job that is retried counts for nobody", first_seed=2)
def retry_is_not_counted() -> Iterator[None]:
    count = Allowance._count

    def forgetful(self: Allowance, change: Change, touched: Any) -> None:
        if change.before is None or not change.before.state.is_final:
            count(self, change, touched)

    with patch.object(Allowance, "_count", forgetful):
        yield


@bug("who has as many jobs waiting as may is refused no retry", first_seed=117)
def retry_is_always_allowed() -> Iterator[None]:
    with patch.object(jobs, "demand_retry", _nothing):
        yield


@bug("of a call that is over the quota, those jobs are taken that fit", first_seed=2)
def create_is_cut_to_fit() -> Iterator[None]:
    refusal = Allowance.refusal

    def lenient(self: Allowance, tenant: str, user: str, count: int) -> Any:
        return refusal(self, tenant, user, min(count, 1))

    with patch.object(Allowance, "refusal", lenient):
        yield


@bug("the jobs of a worker that is removed stay where they are", first_seed=3)
def removed_worker_keeps_its_jobs() -> Iterator[None]:
    with patch.object(removal, "HeldBy", lambda session_id: HeldBy("")):
        yield


@bug("the session of a worker that is removed lives on", first_seed=1)
def removed_worker_lives_on() -> Iterator[None]:
    with patch.object(State, "forget_worker", lambda self, worker_id: self.workers.pop(worker_id, None)):
        yield


@bug("a worker that is removed is given jobs until the commit is answered, and nobody takes those back", first_seed=81)
def removed_worker_is_handed_more() -> Iterator[None]:
    async def late(self: Fleet, principal: Any, worker_id: int) -> int | None:
        told = audit.event(self._state, principal, audit.WORKER_REMOVED, "")
        removed = await self._state.committer.submit(removal.REMOVE, removal.Remove(principal, worker_id, told))
        self._state.forget_worker(worker_id)
        self._state.absorb(removed.changes)
        if removed.credential is not None:
            self._access.hear(removed.credential)
        return None

    async def keep(self: Workers, session: Any, jobs: Any) -> Any:
        return list(jobs)

    with patch.object(Fleet, "_remove", late), patch.object(Workers, "_claimed", keep):
        yield


def _nothing(*arguments: Any, **options: Any) -> None:
    """Does nothing."""

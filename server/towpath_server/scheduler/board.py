"""Which lanes have work: a hint kept in memory so that a poll knows at once whether to ask the store.

A lane's head may promise too much, never too little; the claim finds the truth and brings it back here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from towpath_server.core import lanes as lane_numbers
from towpath_server.core.fairness import Entry, entry_of
from towpath_server.core.job import Definition, Job
from towpath_server.core.lanes import LaneKey
from towpath_server.core.matching import Profile
from towpath_server.core.quotas import Owner
from towpath_server.core.records import Head, Lane
from towpath_server.scheduler.demands import Demand, Demands


@dataclass(frozen=True, slots=True)
class Eligible:
    """The lanes with work that a worker serves, as a heap; `pushes` tells later whether a head has grown meanwhile."""

    entries: list[Entry]
    pushes: int


class Board:
    """All lanes, their heads, and which queues are paused."""

    def __init__(self, lanes: Mapping[Lane, Head | None], paused: Iterable[tuple[str, str]]) -> None:
        self._lanes = {lane.lane_id: lane for lane in lanes}
        self._by_key = {_key_of(lane): lane for lane in lanes}
        self._demands = Demands()
        self._demand_of = {lane.lane_id: self._demands.of(lane) for lane in lanes}
        self._heads: dict[int, Head] = {}
        # Of the lanes with work whose queue is not paused: where they stand among the others of their demand.
        self._entries: dict[int, Entry] = {}
        self._pushes = 0
        self._pushed: dict[int, int] = {}
        self._paused = set(paused)
        self._unsaved: dict[int, Lane] = {}
        # The lane that was asked for last, and for which jobs.
        self._latest: tuple[Definition, Lane] | None = None
        for lane, head in lanes.items():
            self._stand(lane.lane_id, head)

    def __contains__(self, lane_id: int) -> bool:
        """Whether the lane is known."""
        return lane_id in self._lanes

    def lane(self, lane_id: int) -> Lane:
        """The lane."""
        return self._lanes[lane_id]

    def obtain(self, definition: Definition) -> Lane:
        """The lane of such jobs, made where there is none."""
        if self._latest is not None and _are_of_a_lane(self._latest[0], definition):
            return self._latest[1]
        lane = self._obtain(definition)
        self._latest = (definition, lane)
        return lane

    def _obtain(self, definition: Definition) -> Lane:
        key = (
            definition.tenant,
            definition.user,
            definition.queue,
            definition.job_type,
            definition.requirements,
            definition.concurrency_key,
        )
        lane = self._by_key.get(key)
        if lane is None:
            lane = Lane(
                lane_id=lane_numbers.lane_id(key),
                tenant=definition.tenant,
                user=definition.user,
                queue=definition.queue,
                job_type=definition.job_type,
                requirements=definition.requirements,
                concurrency_key=definition.concurrency_key,
            )
            self._add(lane)
            self._unsaved[lane.lane_id] = lane
        return lane

    def _add(self, lane: Lane) -> None:
        self._lanes[lane.lane_id] = self._by_key[_key_of(lane)] = lane
        self._demand_of[lane.lane_id] = self._demands.of(lane)

    def unsaved(self, lanes: Iterable[Lane]) -> tuple[Lane, ...]:
        """Those of the lanes that no commit is known to hold yet."""
        return tuple({lane.lane_id: lane for lane in lanes if lane.lane_id in self._unsaved}.values())

    def saved(self, lanes: Iterable[Lane]) -> None:
        """A commit holds these lanes."""
        for lane in lanes:
            self._unsaved.pop(lane.lane_id, None)

    def push(self, lane_id: int, head: Head) -> None:
        """A job waits in the lane, or is about to."""
        self._pushes += 1
        self._pushed[lane_id] = self._pushes
        known = self._heads.get(lane_id)
        if known is None or head > known:
            self._stand(lane_id, head)

    def learn(self, job: Job) -> None:
        """Another scheduler has made the lane that this job is in: it is stored."""
        self.saved([self._obtain(job.definition)])

    def compare(self, lanes: Mapping[Lane, Head | None]) -> dict[int, int]:
        """Take in where the lanes stand in the store: those with work that was not known here.

        One where less is than was thought keeps its promise: a job may be on its way into the store.
        """
        found: dict[int, int] = {}
        for lane, head in lanes.items():
            if lane.lane_id not in self._lanes:
                self._add(lane)
            known = self._heads.get(lane.lane_id)
            if head is not None and (known is None or head > known):
                self._stand(lane.lane_id, head)
                found[lane.lane_id] = 1
        return found

    def settle(self, heads: Mapping[int, Head | None], pushes: int) -> None:
        """A claim has seen where these lanes stand. A lane that was pushed since keeps its promise."""
        for lane_id, head in heads.items():
            if self._pushed.get(lane_id, 0) <= pushes:
                self._stand(lane_id, head)

    def eligible(self, profile: Profile, worker_id: int) -> Eligible:
        """The lanes with work for a worker."""
        return Eligible(self._demands.ranked(profile, worker_id), self._pushes)

    def served(self, profile: Profile, worker_id: int) -> Iterator[Demand]:
        """The same by what the lanes ask for."""
        return self._demands.served(profile, worker_id)

    def serves(self, lane: Lane, profile: Profile, worker_id: int) -> bool:
        """`matching.serves`, remembered by profile."""
        return self._demands.fits(self._demand_of[lane.lane_id], profile, worker_id)

    def forget_profile(self, profile: Profile) -> None:
        """No worker looks like this any more."""
        self._demands.forget(profile)

    def is_paused(self, lane: Lane) -> bool:
        """Whether the lane's queue is paused."""
        return (lane.tenant, lane.queue) in self._paused

    def holds_back(self, lane: Lane) -> bool:
        """Whether nothing of the lane is handed out: its queue is paused, or as many jobs run as its user may have."""
        return self.is_paused(lane) or (bool(self._demands.held) and self._demands.is_held(lane))

    def has_work(self, lane: Lane) -> bool:
        """Whether something waits that asks for what the lane asks for."""
        return bool(self._demand_of[lane.lane_id].entries)

    def is_held(self, owner: Owner) -> bool:
        """Whether nothing of this user, or of this tenant as a whole, is handed out."""
        return owner in self._demands.held

    @property
    def held(self) -> frozenset[Owner]:
        """All of which nothing is handed out."""
        return frozenset(self._demands.held)

    def hold(self, owner: Owner) -> None:
        """Hand out nothing of a user, or of a tenant as a whole."""
        self._demands.held.add(owner)

    def release(self, owner: Owner) -> list[Lane]:
        """Hand out again; one lane of each kind that has work."""
        self._demands.held.discard(owner)
        return [demand.lane for demand in self._demands.of_owner(owner)]

    def pause(self, tenant: str, queue: str) -> None:
        """Hand out nothing of a queue."""
        self._paused.add((tenant, queue))
        self._stand_again(tenant, queue)

    def resume(self, tenant: str, queue: str) -> list[Lane]:
        """Hand out again; the queue's lanes with work."""
        self._paused.discard((tenant, queue))
        return self._stand_again(tenant, queue)

    def _stand_again(self, tenant: str, queue: str) -> list[Lane]:
        lanes = [self._lanes[lane_id] for lane_id in self._heads]
        concerned = [lane for lane in lanes if (lane.tenant, lane.queue) == (tenant, queue)]
        for lane in concerned:
            self._stand(lane.lane_id, self._heads[lane.lane_id])
        return concerned

    def _stand(self, lane_id: int, head: Head | None) -> None:
        """The lane's best job stands there; None: it has none."""
        if head is None:
            self._heads.pop(lane_id, None)
        else:
            self._heads[lane_id] = head
        entry = None if head is None or self.is_paused(self._lanes[lane_id]) else entry_of(lane_id, head)
        before = self._entries.get(lane_id)
        if entry == before:
            return
        demand = self._demand_of[lane_id]
        if before is not None:
            self._demands.remove(demand, self._entries.pop(lane_id))
        if entry is not None:
            self._entries[lane_id] = entry
            self._demands.add(demand, entry)


def _are_of_a_lane(one: Definition, other: Definition) -> bool:
    """Whether these two certainly are: the jobs of a call mostly are, and then no key needs to be made and hashed."""
    return (
        one.requirements is other.requirements
        and one.job_type == other.job_type
        and one.queue == other.queue
        and one.user == other.user
        and one.tenant == other.tenant
        and one.concurrency_key == other.concurrency_key
    )


def _key_of(lane: Lane) -> LaneKey:
    return (lane.tenant, lane.user, lane.queue, lane.job_type, lane.requirements, lane.concurrency_key)

"""Which lanes have work: a hint kept in memory so that a poll knows at once whether to ask the store.

A lane's head may promise too much, never too little; the claim finds the truth and brings it back here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from towpath_server.core.job import Definition, Requirements
from towpath_server.core.matching import Profile, serves
from towpath_server.core.records import Head, Lane

LaneKey = tuple[str, str, str, str, Requirements, str]


@dataclass(frozen=True, slots=True)
class Eligible:
    """The lanes with work that a worker serves; `pushes` tells later whether a head has grown meanwhile."""

    lanes: tuple[tuple[Lane, Head], ...]
    pushes: Mapping[int, int]


class Board:
    """All lanes, their heads, and which queues are paused."""

    def __init__(self, lanes: Mapping[Lane, Head | None], paused: Iterable[tuple[str, str]]) -> None:
        self._lanes = {lane.lane_id: lane for lane in lanes}
        self._by_key = {_key_of(lane): lane for lane in lanes}
        self._heads = {lane.lane_id: head for lane, head in lanes.items() if head is not None}
        self._pushes: dict[int, int] = {}
        self._paused = set(paused)
        self._unsaved: dict[int, Lane] = {}
        self._fits: dict[tuple[int, Profile], bool] = {}
        self._last_id = max(self._lanes, default=0)

    def lane(self, lane_id: int) -> Lane:
        """The lane."""
        return self._lanes[lane_id]

    def obtain(self, definition: Definition) -> Lane:
        """The lane of such jobs, made where there is none."""
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
            self._last_id += 1
            lane = Lane(
                lane_id=self._last_id,
                tenant=definition.tenant,
                user=definition.user,
                queue=definition.queue,
                job_type=definition.job_type,
                requirements=definition.requirements,
                concurrency_key=definition.concurrency_key,
            )
            self._lanes[lane.lane_id] = self._by_key[key] = self._unsaved[lane.lane_id] = lane
        return lane

    def unsaved(self, lanes: Iterable[Lane]) -> tuple[Lane, ...]:
        """Those of the lanes that no commit is known to hold yet."""
        return tuple({lane.lane_id: lane for lane in lanes if lane.lane_id in self._unsaved}.values())

    def saved(self, lanes: Iterable[Lane]) -> None:
        """A commit holds these lanes."""
        for lane in lanes:
            self._unsaved.pop(lane.lane_id, None)

    def push(self, lane_id: int, head: Head) -> None:
        """A job waits in the lane, or is about to."""
        self._pushes[lane_id] = self._pushes.get(lane_id, 0) + 1
        known = self._heads.get(lane_id)
        if known is None or head > known:
            self._heads[lane_id] = head

    def settle(self, heads: Mapping[int, Head | None], pushes: Mapping[int, int]) -> None:
        """A claim has seen where these lanes stand. A lane that was pushed since keeps its promise."""
        for lane_id, head in heads.items():
            if self._pushes.get(lane_id, 0) != pushes.get(lane_id):
                continue
            if head is None:
                self._heads.pop(lane_id, None)
            else:
                self._heads[lane_id] = head

    def eligible(self, profile: Profile, worker_id: int) -> Eligible:
        """The lanes with work for a worker."""
        lanes = tuple(
            (lane, head)
            for lane_id, head in self._heads.items()
            if self.serves(lane := self._lanes[lane_id], profile, worker_id) and not self.is_paused(lane)
        )
        return Eligible(lanes, {lane.lane_id: self._pushes.get(lane.lane_id, 0) for lane, _ in lanes})

    def serves(self, lane: Lane, profile: Profile, worker_id: int) -> bool:
        """`matching.serves`, remembered by profile."""
        if lane.requirements.worker_id not in (None, worker_id):
            return False
        key = (lane.lane_id, profile)
        fits = self._fits.get(key)
        if fits is None:
            fits = self._fits[key] = serves(lane, profile, worker_id)
        return fits

    def forget_profile(self, profile: Profile) -> None:
        """No worker looks like this any more."""
        for key in [key for key in self._fits if key[1] == profile]:
            del self._fits[key]

    def is_paused(self, lane: Lane) -> bool:
        """Whether the lane's queue is paused."""
        return (lane.tenant, lane.queue) in self._paused

    def pause(self, tenant: str, queue: str) -> None:
        """Hand out nothing of a queue."""
        self._paused.add((tenant, queue))

    def resume(self, tenant: str, queue: str) -> list[Lane]:
        """Hand out again; the queue's lanes with work."""
        self._paused.discard((tenant, queue))
        return [
            lane for lane_id in self._heads if (lane := self._lanes[lane_id]).tenant == tenant and lane.queue == queue
        ]


def _key_of(lane: Lane) -> LaneKey:
    return (lane.tenant, lane.user, lane.queue, lane.job_type, lane.requirements, lane.concurrency_key)

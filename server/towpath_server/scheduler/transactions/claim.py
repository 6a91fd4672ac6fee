"""Handing out queued jobs: the rules choose, the store tells and keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from towpath_server.core.errors import TowpathError
from towpath_server.core.events import Claimed
from towpath_server.core.fairness import Entry, Turns, corrected, entry_of, pick_ranked
from towpath_server.core.job import Definition, Job, Lease
from towpath_server.core.quotas import Owner, owners
from towpath_server.core.records import Head
from towpath_server.scheduler.changes import Change, Changes
from towpath_server.store.base import InLane, Store
from towpath_server.store.committer import Verb

# Of specs in one answer: well below what a channel takes, 4 MiB.
MOST_BYTES = 2 * 1024 * 1024
# So many of a lane are looked at first: they show how large its jobs are, and often it is no more.
FIRST = 2
# By how much more a lane is asked for when it gave all that it was asked for.
GROWTH = 8
NO_ROOMS: Mapping[Owner, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ClaimItem:
    """A poll: which lanes of a tenant it serves, by where their best jobs are thought to stand, and how many it takes.

    `lanes` is a heap. `rooms`: of these users, and tenants as wholes, it may be given so many.
    """

    worker_id: int
    session_id: str
    tenant: str
    lanes: list[Entry]
    limit: int
    rooms: Mapping[Owner, int] = field(default_factory=lambda: NO_ROOMS)


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """The leased jobs in dispatch order, and where the lanes stand now that the poll came to."""

    jobs: tuple[Job, ...]
    changes: tuple[Change, ...]
    heads: dict[int, Head | None]


class _Line:
    """A lane's best jobs, fetched when asked for. What was popped stays QUEUED in the store until the claim saves."""

    def __init__(self, store: Store, lane_id: int, most: int) -> None:
        self._store = store
        self._lane_id = lane_id
        self._most = most
        self._popped = 0
        self._fetch(FIRST)

    def head(self) -> Head | None:
        """Where the best one stands."""
        best = self.best()
        return Head(best.priority, -best.position) if best is not None else None

    def best(self) -> Job | None:
        """The best one."""
        if not self._jobs and self._more:
            self._fetch(self._popped + min(self._most, self._room))
            self._most *= GROWTH
        return self._jobs[0] if self._jobs else None

    def pop(self) -> Job:
        """Take the best one."""
        self._popped += 1
        return self._jobs.popleft()

    def give_back(self, job: Job) -> None:
        """It was popped last, and is not wanted."""
        self._popped -= 1
        self._jobs.appendleft(job)

    def _fetch(self, size: int) -> None:
        jobs = self._store.find(InLane(self._lane_id), size)
        self._more = len(jobs) == size
        self._jobs = deque(jobs[self._popped :])
        # Of jobs like these: what one answer can carry.
        self._room = max(MOST_BYTES * len(jobs) // max(sum(job_bytes(job.definition) for job in jobs), 1), 1)


class _Capped:
    """A line that ends for a poll where its user, or its tenant, has no more room."""

    def __init__(self, line: _Line, rooms: dict[Owner, int]) -> None:
        self._line = line
        self._rooms = rooms

    def head(self) -> Head | None:
        """Where the best one stands."""
        best = self._line.best()
        if best is None or any(self._rooms.get(owner) == 0 for owner in _owners(best)):
            return None
        return self._line.head()

    def pop(self) -> Job:
        """Take the best one."""
        job = self._line.pop()
        for owner in _owners(job):
            if owner in self._rooms:
                self._rooms[owner] -= 1
        return job

    def give_back(self, job: Job) -> None:
        """It was popped last, and is not wanted."""
        self._line.give_back(job)


class Claim:
    """The claim, with whose turn it is and where lease tokens come from. Used by the writer alone."""

    def __init__(self, new_token: Callable[[], str]) -> None:
        self._turns = Turns()
        self._new_token = new_token
        self.verb: Verb[ClaimItem, ClaimOutcome] = Verb("claim", self.run, rank=1)

    def run(self, store: Store, now: int, items: Sequence[ClaimItem]) -> list[ClaimOutcome | TowpathError]:
        """Lease to each poll what it may have, in the order in which the polls came."""
        total = sum(item.limit for item in items)
        widest = max(len(item.lanes) for item in items)
        lines: dict[int, _Line] = {}

        def line_of(asked: dict[int, None], lane_id: int) -> _Line:
            asked[lane_id] = None
            if lane_id not in lines:
                # One more than a lane's share of all that is asked for: the one that stands first afterwards.
                lines[lane_id] = _Line(store, lane_id, max(total // max(widest, 1), 1) + 1)
            return lines[lane_id]

        # A poll is told only of the lanes that it came to, and starts from where those before it left them: what many
        # polls cost that come together must not grow with their square.
        picked: list[list[Job]] = []
        asked: list[dict[int, None]] = []
        known: dict[int, Entry | None] = {}
        for item in items:
            mine: dict[int, None] = {}
            picked.append(self._pick(item, corrected(item.lanes, known), partial(line_of, mine)))
            asked.append(mine)
            known |= {lane_id: _entry(lane_id, lines[lane_id].head()) for lane_id in mine}
        changes = Changes(store, {job.job_id: job for jobs in picked for job in jobs}, now)
        for item, jobs in zip(items, picked, strict=True):
            for job in jobs:
                lease = Lease(self._new_token(), item.worker_id, item.session_id)
                changes.apply(job.job_id, Claimed(lease))
        by_id = {change.after.job_id: change for change in changes.save() if change.after is not None}
        heads = {lane_id: line.head() for lane_id, line in lines.items()}
        return [
            _outcome([by_id[job.job_id] for job in jobs], {lane_id: heads[lane_id] for lane_id in mine})
            for jobs, mine in zip(picked, asked, strict=True)
        ]

    def _pick(self, item: ClaimItem, lanes: list[Entry], whole: Callable[[int], _Line]) -> list[Job]:
        """The poll's jobs: no more at once than one answer can carry, and one in any case."""
        size = 0
        rooms = dict(item.rooms)

        def line_of(lane_id: int) -> _Line | _Capped:
            return _Capped(whole(lane_id), rooms) if rooms else whole(lane_id)

        def is_full(job: Job) -> bool:
            nonlocal size
            size += job_bytes(job.definition)
            return size > MOST_BYTES

        jobs = pick_ranked({item.tenant: lanes}, item.limit, self._turns, line_of, is_full)
        if size > MOST_BYTES and len(jobs) > 1:
            late = jobs.pop()
            line_of(late.lane_id).give_back(late)
        return jobs


def _owners(job: Job) -> tuple[Owner, Owner]:
    return owners(job.definition.tenant, job.definition.user)


def job_bytes(definition: Definition) -> int:
    """Of a job's answer, what its submitter wrote."""
    return len(definition.spec) + len(definition.annotations)


def _entry(lane_id: int, head: Head | None) -> Entry | None:
    return None if head is None else entry_of(lane_id, head)


def _outcome(changes: list[Change], heads: dict[int, Head | None]) -> ClaimOutcome:
    jobs = tuple(change.after for change in changes if change.after is not None)
    return ClaimOutcome(jobs, tuple(changes), heads)

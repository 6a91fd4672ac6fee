"""What each user may still have: the quotas, and counts kept in memory beside them. Where there is no quota it is off.

With one scheduler the counts of jobs are exact: they follow the commits in their order. What is on its way into a
commit is reserved meanwhile. Of several schedulers each counts its own, and learns what the others did from the store,
as all learn how many bytes are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from towpath_server.core.errors import QuotaExceeded, RateExceeded
from towpath_server.core.job import SECOND
from towpath_server.core.quotas import (
    NOTHING,
    Bucket,
    Owner,
    Use,
    full_for_more,
    owners,
    quota_of,
    refilled,
    room_to_run,
    use_of,
    wait_for_call,
)
from towpath_server.core.records import Lane, Quota
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.changes import Change, changes_of
from towpath_server.scheduler.waiters import Waiters


@dataclass(frozen=True, slots=True)
class Counted:
    """What each user has in the store at the end of a commit."""

    uses: Mapping[Owner, Use]


class Allowance:
    """Quotas with what is in use of them, of users and of tenants as wholes."""

    def __init__(self, board: Board, waiters: Waiters, steady: Callable[[], int]) -> None:
        self._board = board
        self._waiters = waiters
        self._steady = steady
        self._quotas: dict[Owner, Quota] = {}
        self._uses: dict[Owner, Use] = {}
        # What has changed since a look at the store began.
        self._since: dict[Owner, Use] | None = None
        # What is on its way; of new jobs by their number.
        self._reserved: dict[Owner, Use] = {}
        self._expected: dict[int, tuple[Owner, Use]] = {}
        self._buckets: dict[Owner, Bucket] = {}
        # Whether there is any quota: all that submit or poll ask this first.
        self.is_on = False

    @property
    def limits_sizes(self) -> bool:
        """Whether anybody may keep only so many bytes."""
        limits = ((quota.max_result_bytes, quota.max_log_bytes) for quota in self._quotas.values())
        return any(limit is not None for pair in limits for limit in pair)

    @property
    def quotas(self) -> Mapping[Owner, Quota]:
        """All quotas by whose they are."""
        return self._quotas

    def use(self, owner: Owner) -> Use:
        """What a user, or a tenant as a whole, has."""
        return self._uses.get(owner, NOTHING)

    def put(self, changed: Iterable[Quota], gone: Iterable[Owner] = ()) -> None:
        """Quotas as they are kept now."""
        for quota in changed:
            self._quotas[quota.tenant, quota.user] = quota
        for owner in gone:
            self._quotas.pop(owner, None)
        self.is_on = bool(self._quotas)
        self._buckets.clear()
        self._settle({*self._uses, *self._board.held})
        self._waiters.wake_all()

    def take_in(self, outcomes: Sequence[object]) -> None:
        """What a commit has changed. Called commit after commit."""
        touched: set[Owner] = set()
        for outcome in outcomes:
            if isinstance(outcome, Counted):
                self.adopt(outcome.uses)
            for change in changes_of(outcome):
                self._count(change, touched)
        self._settle(touched)

    def begin_look(self) -> None:
        """From now on the store is looked at."""
        self._since = {}

    def adopt(self, found: Mapping[Owner, Use], *, jobs: bool = True, sizes: bool = False) -> None:
        """What was found in the store, of jobs or of sizes."""
        since, self._since = self._since or {}, None
        uses: dict[Owner, Use] = {}
        for owner in {*found, *(known for known in self._uses if known[1])}:
            was, now = self.use(owner), found.get(owner, NOTHING).plus(since.get(owner, NOTHING))
            now = Use(*(now if jobs else was)[:2], *(now if sizes else was)[2:])
            for key in owners(*owner):
                uses[key] = uses.get(key, NOTHING).plus(Use(*(max(one, 0) for one in now)))
        self._uses = uses
        self._settle({*uses, *self._board.held})

    def refusal(self, tenant: str, user: str, jobs: int) -> QuotaExceeded | None:
        """What stands against so many new jobs."""
        for owner in owners(tenant, user):
            quota = quota_of(self._quotas, owner)
            full = full_for_more(quota, self._with_reserved(owner), jobs) if quota is not None else None
            if full is not None:
                facts = {"limit": full.limit, "what": full.what, "in_use": full.in_use, "advice": full.advice}
                error = QuotaExceeded(who=_name(owner), **facts)
                error.retry_after = full.retry_after
                return error
        return None

    def expect(self, job_id: int, tenant: str, user: str, *, running: bool) -> bool:
        """A job is about to be born, waiting or already on a worker; False where no more may run."""
        if running and any(self._room(owner) == 0 for owner in owners(tenant, user)):
            return False
        use = Use(running=1) if running else Use(queued=1)
        self._expected[job_id] = ((tenant, user), use)
        self._reserve(owners(tenant, user), use)
        return True

    def forget(self, job_ids: Iterable[int]) -> None:
        """These are born, or never will be."""
        for job_id in job_ids:
            owner, use = self._expected.pop(job_id, (None, NOTHING))
            if owner is not None:
                self._reserve(owners(*owner), NOTHING.minus(use))

    def rooms(self, tenant: str) -> dict[Owner, int]:
        """How many more jobs may run, of those who may only have so many. What has no room is held back."""
        known = {owner for owner in self._quotas if owner[0] == tenant and owner[1]}
        rooms = {owner: room for owner in (*known, (tenant, "")) if (room := self._room(owner)) is not None}
        self._settle(rooms)
        return rooms

    def reserve(self, rooms: Mapping[Owner, int], most: int) -> Callable[[], None]:
        """A poll may be given at most so many jobs of each; what is returned says that it was given what it gets."""
        taken = {owner: Use(running=min(room, most)) for owner, room in rooms.items() if room}
        for owner, use in taken.items():
            self._reserve((owner,), use)

        def done() -> None:
            for owner, use in taken.items():
                self._reserve((owner,), NOTHING.minus(use))

        return done

    def why_held(self, lane: Lane) -> str:
        """Why nothing of the lane is handed out, in words; empty where it is not for a quota."""
        for owner in owners(lane.tenant, lane.user):
            quota = quota_of(self._quotas, owner)
            if quota is not None and self._room(owner) == 0:
                whose = f"user {owner[1]}" if owner[1] else f"tenant {owner[0]}"
                return f"{self.use(owner).running} of at most {quota.max_running} jobs of {whose} run"
        return ""

    def call(self, tenant: str, user: str) -> None:
        """A call of this user. Raises `RateExceeded`."""
        now = self._steady()
        buckets: dict[Owner, Bucket] = {}
        waits: dict[Owner, tuple[int, int]] = {}
        for owner in owners(tenant, user):
            quota = quota_of(self._quotas, owner)
            rate = quota.max_requests_per_minute if quota is not None else None
            if rate is not None:
                buckets[owner] = refilled(self._buckets.get(owner), rate, now)
                waits[owner] = wait_for_call(buckets[owner], rate), rate
        longest = max(waits, key=lambda owner: waits[owner], default=None)
        if longest is not None and waits[longest][0]:
            wait, rate = waits[longest]
            error = RateExceeded(who=_name(longest), limit=rate, seconds=f"{wait / SECOND:.1f}")
            error.retry_after = wait
            raise error
        self._buckets |= {owner: bucket._replace(calls=bucket.calls - 1) for owner, bucket in buckets.items()}

    def _count(self, change: Change, touched: set[Owner]) -> None:
        before, after = change.before, change.after
        if before is not None and after is not None and before.state is after.state:
            return
        job = after if after is not None else before
        delta = use_of(after).minus(use_of(before))
        if job is None or delta == NOTHING:
            return
        owner = (job.definition.tenant, job.definition.user)
        for key in owners(*owner):
            self._uses[key] = self.use(key).plus(delta)
            touched.add(key)
        if self._since is not None:
            self._since[owner] = self._since.get(owner, NOTHING).plus(delta)
        if before is None:
            self.forget((job.job_id,))

    def _with_reserved(self, owner: Owner) -> Use:
        reserved = self._reserved.get(owner)
        return self.use(owner) if reserved is None else self.use(owner).plus(reserved)

    def _reserve(self, keys: Iterable[Owner], use: Use) -> None:
        for key in keys:
            reserved = self._reserved.get(key, NOTHING).plus(use)
            if reserved == NOTHING:
                self._reserved.pop(key, None)
            else:
                self._reserved[key] = reserved
            if use.running:
                self._settle((key,))

    def _room(self, owner: Owner) -> int | None:
        return room_to_run(quota_of(self._quotas, owner), self._with_reserved(owner))

    def _settle(self, touched: Iterable[Owner]) -> None:
        """Hold back who may not run more, and let go who may again."""
        for owner in list(touched):
            room = self._room(owner)
            if room == 0:
                self._board.hold(owner)
            elif self._board.is_held(owner):
                for lane in self._board.release(owner):
                    self._waiters.wake(lane, len(self._waiters) if room is None else room)


def _name(owner: Owner) -> str:
    return f"User {owner[1]}" if owner[1] else f"Tenant {owner[0]}"

"""How much a tenant and its users may have: which quota holds for whom, and what is over it. Counts come from outside.

Two quotas hold for a user: its own, and that of its tenant, which counts all users of the tenant together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from towpath_server.core.job import SECOND, Job
from towpath_server.core.records import Quota

KeyT = TypeVar("KeyT", bound=Hashable)

# A user of a tenant; with no user, the tenant as a whole.
Owner = tuple[str, str]
# The quota of each tenant that has none of its own.
DEFAULT: Owner = ("", "")
MINUTE = 60 * SECOND
# Of a minute's calls, so many may come at once.
BURST = 0.1
# When it makes sense to look again: jobs come and go, what is kept stays for days (microseconds).
SOON, LATER = 5 * SECOND, 60 * SECOND


class Use(NamedTuple):
    """What somebody has: jobs that wait, jobs on workers, bytes that are kept."""

    queued: int = 0
    running: int = 0
    result_bytes: int = 0
    log_bytes: int = 0

    def plus(self, other: Use) -> Use:
        """Both together."""
        return Use(*map(int.__add__, self, other))

    def minus(self, other: Use) -> Use:
        """The one without the other."""
        return Use(*map(int.__sub__, self, other))


NOTHING = Use()


class Full(NamedTuple):
    """A limit that was reached: of what, how much of it is in use, and when to look again (microseconds)."""

    what: str
    limit: int
    in_use: int
    advice: str
    retry_after: int


def use_of(job: Job | None) -> Use:
    """What a job counts for, its logs aside."""
    if job is None:
        return NOTHING
    if job.state.is_final:
        return Use(result_bytes=len(job.result)) if job.result is not None else NOTHING
    return Use(running=1) if job.lease is not None else Use(queued=1)


def total(uses: Iterable[Use]) -> Use:
    """All of them together."""
    return Use(*map(sum, zip(NOTHING, *uses, strict=True)))


def owners(tenant: str, user: str) -> tuple[Owner, Owner]:
    """The user, and its tenant as a whole."""
    return (tenant, user), (tenant, "")


def quota_of(quotas: Mapping[Owner, Quota], owner: Owner) -> Quota | None:
    """The quota that holds for a user alone, or for a tenant as a whole."""
    found = quotas.get(owner)
    return quotas.get(DEFAULT) if found is None and not owner[1] else found


def full_for_more(quota: Quota, use: Use, jobs: int) -> Full | None:
    """What stands against so many new jobs."""
    if quota.max_queued is not None and use.queued + jobs > quota.max_queued:
        advice = "Wait until some of them have run, cancel some, or submit fewer at once"
        return Full("jobs that wait", quota.max_queued, use.queued, advice, SOON)
    for what, limit, in_use in (
        ("bytes of results", quota.max_result_bytes, use.result_bytes),
        ("bytes of logs", quota.max_log_bytes, use.log_bytes),
    ):
        if limit is not None and in_use >= limit:
            return Full(what, limit, in_use, "Delete finished jobs, or give jobs a shorter ttl", LATER)
    return None


def room_to_run(quota: Quota | None, use: Use) -> int | None:
    """How many more jobs may run; None: as many as there are slots."""
    if quota is None or quota.max_running is None:
        return None
    return max(quota.max_running - use.running, 0)


class Bucket(NamedTuple):
    """How many calls somebody may make at once, as it stood at a moment (microseconds)."""

    calls: float
    time: int


def most_at_once(per_minute: int) -> float:
    """How many calls may come at once after a pause."""
    return max(per_minute * BURST, 1.0)


def refilled(bucket: Bucket | None, per_minute: int, now: int, most: float | None = None) -> Bucket:
    """The bucket as it stands now, with `most` calls where it is full; None: nobody has called before."""
    most = most_at_once(per_minute) if most is None else most
    if bucket is None:
        return Bucket(most, now)
    since = max(now - bucket.time, 0)
    return Bucket(min(bucket.calls + since * per_minute / MINUTE, most), now)


def wait_for_call(bucket: Bucket, per_minute: int) -> int:
    """How long (microseconds) until the bucket has room for a call; 0: it has."""
    if per_minute == 0:
        return MINUTE
    missing = 1.0 - bucket.calls
    # Float arithmetic may leave a call a hair short of one.
    return 0 if missing <= 1e-9 else -int(-missing * MINUTE // per_minute)


@dataclass(slots=True)
class Rate(Generic[KeyT]):
    """So many calls at once of each key, and then so many a minute. It remembers `most_keys`, those that called last.

    Of more keys than that within the time in which a bucket fills up, some begin anew: memory is bounded, not exact.
    """

    per_minute: int
    burst: int
    most_keys: int
    _buckets: dict[KeyT, Bucket] = field(default_factory=dict)

    def take(self, key: KeyT, now: int) -> int:
        """A call. How long (microseconds) until there is room for it; 0: it is taken."""
        bucket = refilled(self._buckets.pop(key, None), self.per_minute, now, self.burst)
        wait = wait_for_call(bucket, self.per_minute)
        self._buckets[key] = bucket if wait else bucket._replace(calls=bucket.calls - 1)
        if len(self._buckets) > self.most_keys:
            del self._buckets[next(iter(self._buckets))]
        return wait

    def __len__(self) -> int:
        return len(self._buckets)

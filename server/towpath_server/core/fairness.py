"""Which lane is next: strict priority, then tenants in turn, then the job that has waited longest."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from towpath_server.core.job import Job
from towpath_server.core.records import Head, Lane

# A lane by where its best job stands, to be compared: what goes first is smaller.
Entry = tuple[int, int, int]


class Line(Protocol):
    """The QUEUED jobs of one lane, best first."""

    def head(self) -> Head | None:
        """Where the best one stands."""

    def pop(self) -> Job:
        """Take the best one."""


class Turns:
    """Whose turn it is: the tenant that was served longest ago goes first."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._count = 0

    def last(self, tenant: str) -> int:
        """When the tenant was last served; smaller is longer ago, 0 is never."""
        return self._served.get(tenant, 0)

    def take(self, tenant: str) -> None:
        """The tenant is served now."""
        self._count += 1
        self._served[tenant] = self._count


def pick(lanes: Iterable[tuple[Lane, Head]], limit: int, turns: Turns, line_of: Callable[[int], Line]) -> list[Job]:
    """At most `limit` jobs in dispatch order out of these lanes, each with its head: see `pick_ranked`."""
    tenants: dict[str, list[Entry]] = {}
    for lane, head in lanes:
        tenants.setdefault(lane.tenant, []).append(entry_of(lane.lane_id, head))
    for entries in tenants.values():
        heapq.heapify(entries)
    return pick_ranked(tenants, limit, turns, line_of)


def pick_ranked(
    tenants: dict[str, list[Entry]],
    limit: int,
    turns: Turns,
    line_of: Callable[[int], Line],
    until: Callable[[Job], bool] = lambda job: False,
) -> list[Job]:
    """At most `limit` jobs in dispatch order out of each tenant's lanes, a heap each; the heaps are used up.

    The first job of which `until` holds is the last one.
    A lane's given head may promise too much (the job was cancelled since), never too little: a line is asked only when
    its lane is next, and a lane that promised too much goes back to its true place.
    """
    picked: list[Job] = []
    tenants = {name: entries for name, entries in tenants.items() if entries}
    while tenants and len(picked) < limit:
        tenant = min(tenants, key=lambda name: (tenants[name][0][0], turns.last(name), tenants[name][0][1]))
        entries = tenants[tenant]
        promised = entries[0]
        line = line_of(promised[2])
        true_head = line.head()
        if true_head is not None and entry_of(promised[2], true_head) == promised:
            picked.append(line.pop())
            turns.take(tenant)
            if until(picked[-1]):
                break
            true_head = line.head()
        if true_head is not None:
            heapq.heapreplace(entries, entry_of(promised[2], true_head))
            continue
        heapq.heappop(entries)
        if not entries:
            del tenants[tenant]
    return picked


def corrected(lanes: list[Entry], known: Mapping[int, Entry | None]) -> list[Entry]:
    """A heap of its own out of a heap of lanes, some of which are known to stand elsewhere, or (None) to be empty."""
    if not known:
        return lanes.copy()
    entries = [entry for lane in lanes if (entry := known.get(lane[2], lane)) is not None]
    heapq.heapify(entries)
    return entries


def entry_of(lane_id: int, head: Head) -> Entry:
    """The entry of a lane whose best job stands there."""
    return (-head.priority, head.position, lane_id)

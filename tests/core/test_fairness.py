"""Which job goes next: strict priority, then tenants in turn, then first come, first served."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from support.lives import DEFINITION, NOW
from towpath_server.core.fairness import Entry, Line, Turns, corrected, entry_of, pick, pick_ranked
from towpath_server.core.job import Job, Priority
from towpath_server.core.lifecycle import create
from towpath_server.core.records import Head, Lane

LOW, NORMAL, HIGH, CRITICAL = Priority
# Lanes 0 and 1 are of tenant a, 2 and 3 of b, 4 and 5 of c.
LANES = [Lane(lane_id=n, tenant="aabbcc"[n], user="ann", queue=f"q{n}", job_type="train") for n in range(6)]


class Waiting:
    """The jobs of all lanes, written as lane, priority and place."""

    def __init__(self, *jobs: tuple[int, Priority, int]) -> None:
        self.lines = {lane.lane_id: _Line() for lane in LANES}
        for lane_id, priority, place in jobs:
            self.lines[lane_id].jobs.append(create(place, DEFINITION, lane_id, priority, NOW))
        for line in self.lines.values():
            line.jobs.sort(key=lambda job: (-job.priority, job.position))
        self.asked: list[int] = []

    def line_of(self, lane_id: int) -> Line:
        self.asked.append(lane_id)
        return self.lines[lane_id]

    def heads(self) -> list[tuple[Lane, Head]]:
        heads = [(lane, self.lines[lane.lane_id].head()) for lane in LANES]
        return [(lane, head) for lane, head in heads if head is not None]

    def pick(self, limit: int, turns: Turns | None = None) -> list[int]:
        """The places of the jobs that go next, in order."""
        return places(pick(self.heads(), limit, turns or Turns(), self.line_of))


class _Line:
    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def head(self) -> Head | None:
        return Head(self.jobs[0].priority, -self.jobs[0].position) if self.jobs else None

    def pop(self) -> Job:
        return self.jobs.pop(0)


def places(jobs: Sequence[Job]) -> list[int]:
    """Where they stood."""
    return [job.position for job in jobs]


def test_a_higher_priority_goes_first_whoever_asks_and_however_late() -> None:
    waiting = Waiting((0, LOW, 1), (0, NORMAL, 2), (2, CRITICAL, 9), (2, HIGH, 8), (4, CRITICAL, 10))
    assert waiting.pick(9) == [9, 10, 8, 2, 1]


def test_tenants_take_turns_at_equal_priority() -> None:
    flood = [(0, NORMAL, place) for place in range(1, 6)]
    assert Waiting(*flood, (2, NORMAL, 6), (4, NORMAL, 7), (2, NORMAL, 8)).pick(9) == [1, 6, 7, 2, 8, 3, 4, 5]


def test_the_number_of_lanes_gives_a_tenant_no_more_turns() -> None:
    waiting = Waiting((0, NORMAL, 1), (1, NORMAL, 2), (0, NORMAL, 3), (1, NORMAL, 4), (2, NORMAL, 5), (2, NORMAL, 6))
    assert waiting.pick(4) == [1, 5, 2, 6]


def test_a_tenants_jobs_go_in_order_across_its_lanes() -> None:
    assert Waiting((1, NORMAL, 4), (0, NORMAL, 3), (1, NORMAL, 2), (0, NORMAL, 5)).pick(9) == [2, 3, 4, 5]


def test_turns_go_on_from_one_pick_to_the_next() -> None:
    waiting, turns = Waiting(*((lane, NORMAL, 10 * lane + n) for lane in (0, 2) for n in (1, 2))), Turns()
    assert [waiting.pick(1, turns)[0] for _ in range(4)] == [1, 21, 2, 22]


def test_a_turn_at_a_higher_priority_counts() -> None:
    waiting = Waiting((0, HIGH, 1), (0, NORMAL, 2), (2, NORMAL, 3))
    assert waiting.pick(9) == [1, 3, 2]


def test_no_more_than_asked_for_and_no_lane_asked_in_vain() -> None:
    waiting = Waiting((0, NORMAL, 1), (2, NORMAL, 2), (4, NORMAL, 3))
    assert waiting.pick(0) == []
    assert waiting.asked == []
    assert waiting.pick(2) == [1, 2]
    assert set(waiting.asked) == {0, 2}
    assert Waiting().pick(3) == []


def test_a_promise_that_no_longer_holds_costs_nobody_a_turn() -> None:
    waiting = Waiting((0, LOW, 5), (2, NORMAL, 6), (4, NORMAL, 7))
    turns = Turns()
    promised = [(LANES[0], Head(CRITICAL, -1)), (LANES[1], Head(CRITICAL, -2)), *waiting.heads()[1:]]
    assert places(pick(promised, 9, turns, waiting.line_of)) == [6, 7, 5]
    assert turns.last("a") == 3
    assert turns.last("nobody") == 0


def test_who_knows_where_lanes_stand_now_asks_none_in_vain() -> None:
    lanes = LANES[:2]
    waiting, turns = Waiting(*((place % 2, NORMAL, place) for place in range(8))), Turns()
    heap = [entry_of(lane.lane_id, head) for lane, head in waiting.heads()]
    known: dict[int, Entry | None] = {}
    for wanted in ([0, 1, 2], [3, 4, 5], [6, 7]):
        waiting.asked.clear()
        assert places(pick_ranked({"a": corrected(heap, known)}, 3, turns, waiting.line_of)) == wanted
        assert len(waiting.asked) == len(wanted)
        heads = dict(waiting.heads())
        known = {lane.lane_id: entry_of(lane.lane_id, heads[lane]) if lane in heads else None for lane in lanes}
    assert pick_ranked({"a": corrected(heap, known)}, 3, turns, waiting.line_of) == []


JOBS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Priority)), max_size=12)
STALE = st.lists(st.sampled_from(Priority) | st.none(), min_size=6, max_size=6)


def expected(waiting: Waiting, limit: int, served: dict[str, int]) -> list[int]:
    """The same said as plainly as can be: look at every waiting job each time."""
    jobs = [(lane.tenant, job) for lane in LANES for job in waiting.lines[lane.lane_id].jobs]
    picked: list[int] = []
    while jobs and len(picked) < limit:
        top = max(job.priority for _, job in jobs)
        fitting = [(served.get(tenant, 0), job.position, tenant, job) for tenant, job in jobs if job.priority is top]
        _, place, tenant, job = min(fitting, key=lambda entry: entry[:2])
        jobs.remove((tenant, job))
        picked.append(place)
        served[tenant] = max(served.values(), default=0) + 1
    return picked


@settings(max_examples=150, deadline=None)
@given(JOBS, STALE, st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_as_if_every_job_were_looked_at(
    jobs: list[tuple[int, Priority]], stale: list[Priority | None], limits: list[int]
) -> None:
    numbered = [(lane_id, priority, place) for place, (lane_id, priority) in enumerate(jobs, start=10)]
    waiting, turns, served = Waiting(*numbered), Turns(), dict[str, int]()
    for limit in limits:
        promised = dict(waiting.heads())
        for lane, priority in zip(LANES, stale, strict=True):
            if priority is not None:
                promised[lane] = max(promised.get(lane, Head(LOW, -99)), Head(priority, -lane.lane_id))
        wanted = expected(waiting, limit, served)
        assert places(pick(promised.items(), limit, turns, waiting.line_of)) == wanted

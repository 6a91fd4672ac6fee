"""What the board and the parked polls answer from their indexes is what a look at every lane and every poll answers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.stage import ADA, settled, stage
from towpath_server.core.fairness import entry_of
from towpath_server.core.job import Definition, Priority, Requirements
from towpath_server.core.matching import Profile, serves
from towpath_server.core.records import Head, Lane, Share
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.waiters import Waiter, Waiters

CROWD = 1_000
NEEDS = st.sampled_from(
    [
        Requirements(),
        Requirements(cpu_count=4),
        Requirements(worker_labels=(("a", "1"),)),
        Requirements(worker_labels=(("a", "1"), ("b", "2"))),
        Requirements(worker_id=1),
        Requirements(worker_id=2, model_id=7),
        Requirements(model_id=7),
        Requirements(model_id=7, worker_labels=(("b", "2"),)),
    ]
)
DEFINITIONS = st.builds(
    Definition,
    tenant=st.sampled_from(["t", "t", "other"]),
    user=st.sampled_from(["ann", "ann", "bob"]),
    job_type=st.sampled_from(["echo", "train"]),
    queue=st.sampled_from(["p", "q"]),
    requirements=NEEDS,
)
PROFILES = st.builds(
    Profile,
    tenant=st.sampled_from(["t", "t", "other"]),
    user=st.sampled_from(["ann", "bob"]),
    job_types=st.frozensets(st.sampled_from(["echo", "train"]), min_size=1),
    labels=st.frozensets(st.sampled_from([("a", "1"), ("b", "2")])),
    cpu_count=st.sampled_from([1, 8]),
    memory_mb=st.just(0),
    gpus=st.just(()),
    models=st.frozensets(st.just(7)),
    share=st.sampled_from(Share),
)
HEADS = st.builds(Head, st.sampled_from(Priority), st.integers(-9, -1))
LANES = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("push"), LANES, HEADS),
    st.tuples(st.just("claim"), LANES, st.tuples(st.lists(st.tuples(LANES, HEADS), max_size=2), st.none() | HEADS)),
    st.tuples(st.sampled_from(["pause", "resume"]), st.sampled_from(["p", "q"]), st.none()),
)


@dataclass
class Plain:
    """The board said as plainly as can be."""

    heads: dict[int, Head] = field(default_factory=dict)
    paused: set[tuple[str, str]] = field(default_factory=set)

    def eligible(self, lanes: list[Lane], profile: Profile, worker_id: int) -> list[tuple[int, int, int]]:
        return sorted(
            entry_of(lane.lane_id, self.heads[lane.lane_id])
            for lane in lanes
            if lane.lane_id in self.heads
            and (lane.tenant, lane.queue) not in self.paused
            and serves(lane, profile, worker_id)
        )


@settings(max_examples=200, deadline=None)
@given(st.lists(DEFINITIONS, min_size=6, max_size=6), st.lists(PROFILES, min_size=2, max_size=2), st.lists(STEPS))
def test_a_poll_sees_the_lanes_with_work_that_its_worker_serves(
    definitions: list[Definition], profiles: list[Profile], steps: list[tuple[str, Any, Any]]
) -> None:
    board, plain = Board({}, []), Plain()
    lanes = [board.obtain(definition) for definition in definitions]

    def push(lane_id: int, head: Head) -> None:
        board.push(lane_id, head)
        plain.heads[lane_id] = max(head, plain.heads.get(lane_id, head))

    for step, where, what in steps:
        match step:
            case "push":
                push(lanes[where].lane_id, what)
            case "claim":
                meanwhile, head = what
                pushes, lane_id = board.eligible(profiles[0], 1).pushes, lanes[where].lane_id
                for pushed, at in meanwhile:
                    push(lanes[pushed].lane_id, at)
                board.settle({lane_id: head}, pushes)
                if lane_id not in {lanes[pushed].lane_id for pushed, _ in meanwhile}:
                    plain.heads.pop(lane_id, None)
                    plain.heads |= {lane_id: head} if head else {}
            case "pause":
                board.pause("t", where)
                plain.paused.add(("t", where))
            case "resume":
                board.resume("t", where)
                plain.paused.discard(("t", where))
        for profile, worker_id in itertools.product(profiles, (1, 2)):
            expected = plain.eligible(list(dict.fromkeys(lanes)), profile, worker_id)
            assert sorted(board.eligible(profile, worker_id).entries) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(DEFINITIONS, min_size=2, max_size=4),
    st.lists(PROFILES, min_size=2, max_size=3),
    st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(1, 3))),
)
async def test_a_job_finds_the_poll_that_has_waited_longest(
    definitions: list[Definition], profiles: list[Profile], steps: list[tuple[bool, int, int]]
) -> None:
    board = Board({}, [])
    lanes, waiters, parked = [board.obtain(one) for one in definitions], Waiters(board), list[Waiter]()
    for comes, which, worker_id in steps:
        if comes:
            profile = profiles[which % len(profiles)]
            session = SimpleNamespace(profile=profile, worker=SimpleNamespace(worker_id=worker_id))
            parked.append(waiters.park(cast(Any, session), 1))
        elif parked:
            assert waiters.leave(parked.pop(which % len(parked)))
        assert len(waiters) == len(parked)
        for lane in lanes:
            able = (one for one in parked if serves(lane, one.profile, one.session.worker.worker_id))
            assert waiters.first(lane) is next(able, None)


@pytest.mark.parametrize("alike", [True, False])
async def test_one_job_wakes_one_of_a_thousand_parked_polls(alike: bool) -> None:
    async with stage() as s:
        workers = [
            await s.worker(job_types=("echo",) if alike else ("echo", f"own-{number}")) for number in range(CROWD)
        ]
        polls = [s.poll(worker) for worker in workers]
        await s.parked(CROWD)
        job = await s.submit()
        await settled(lambda: any(poll.done() for poll in polls))
        assert [[one.job_id for one in poll.result()] for poll in polls if poll.done()] == [[job.job_id]]
        assert s.parked_now() == CROWD - 1
        # It comes back: the next in the line gets it, and nobody else so much as looks for it.
        looks = 0
        submit = s.scheduler.timers._state.committer.submit

        async def counted(verb: Any, item: Any) -> Any:
            nonlocal looks
            looks += verb.name == "claim"
            return await submit(verb, item)

        s.scheduler.timers._state.committer.submit = counted  # type: ignore[method-assign]
        holder = next(worker for worker, poll in zip(workers, polls, strict=True) if poll.done())
        await s.scheduler.workers.deregister(ADA, holder.worker_id, holder.session_id)
        await settled(lambda: sum(poll.done() for poll in polls) == 2)
        assert s.parked_now() == CROWD - 2
        assert looks == 1
        for poll in polls:
            poll.cancel()

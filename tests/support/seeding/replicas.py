"""Mistakes among several schedulers that share a store: what they hear of others, and what the dead leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from support.seeding.table import bug
from towpath_server.core.job import SECOND, Job, JobState
from towpath_server.core.records import Head, Lane, Queue, Replica, Worker
from towpath_server.scheduler import feed, replicas, workers
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.effects import Effects
from towpath_server.scheduler.feed import Feed
from towpath_server.scheduler.hearsay import Hearsay
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions import expire, sessions
from towpath_server.scheduler.transactions import replicas as numbers
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb
from towpath_server.store.shared import Brief, News


@bug("work in a lane that another scheduler has made is not heard of", shared=True)
def feed_forgets_new_lanes() -> Iterator[None]:
    wanted = Feed._is_wanted

    def lazy(self: Feed, brief: Brief, horizon: int) -> bool:
        return brief.lane_id in self._state.board and wanted(self, brief, horizon)

    with patch.object(Feed, "_is_wanted", lazy):
        yield


@bug("changes are told to those who watch before all that come in front of them are there", shared=True, first_seed=18)
def horizon_ignored() -> Iterator[None]:
    read = feed._read

    def hasty(store: Any, after: int, **options: Any) -> News:
        news = read(store, after, **options)
        return replace(news, horizon=max([news.horizon, *(brief.sequence for brief in news.jobs)]))

    with patch.object(feed, "_read", hasty):
        yield


@bug("what this scheduler changed itself is not told to those who watch all jobs", shared=True)
def own_changes_are_not_watched() -> Iterator[None]:
    take_in = Feed._take_in

    def deaf(self: Feed, news: News, jobs: dict[int, Job]) -> None:
        mine = {brief.job_id for brief in news.jobs if brief.mine}
        take_in(self, news, {job_id: job for job_id, job in jobs.items() if job_id not in mine})

    with patch.object(Feed, "_take_in", deaf):
        yield


@bug("a notice that is lost is never made up for", shared=True, first_seed=226)
def lost_notices_are_lost() -> Iterator[None]:
    with patch.object(feed, "LOOK", 1e6):
        yield


@bug(
    "a watch that goes on at another scheduler does not wait for what that one has not heard of",
    shared=True,
    first_seed=80,
)
def resumed_watch_does_not_catch_up() -> Iterator[None]:
    async def nothing(self: State) -> None:
        return None

    with patch.object(State, "catch_up", nothing):
        yield


@bug("a cancel does not reach a worker that is connected to another scheduler", shared=True, first_seed=41)
def cancel_stays_at_home() -> Iterator[None]:
    hear = Effects.hear

    def deaf(self: Effects, job: Job) -> None:
        if job.state is not JobState.CANCELLING:
            hear(self, job)

    with patch.object(Effects, "hear", deaf):
        yield


@bug(
    "what another scheduler did to a lease is not seen in a change of one's own that follows",
    shared=True,
    first_seed=52,
)
def own_changes_hide_others() -> Iterator[None]:
    hear, leases = Effects.hear, Effects._leases

    def blind(self: Effects, before: Job | None, after: Job, reported: bool) -> None:
        with patch.object(Effects, "hear", lambda self, job: None):
            leases(self, before, after, reported)

    with patch.object(Effects, "_leases", blind), patch.object(Effects, "hear", hear):
        yield


@bug(
    "the sweep of all lanes takes back what was promised for a job on its way into the store",
    shared=True,
    first_seed=11,
)
def sweep_forgets_a_push() -> Iterator[None]:
    def compare(self: Board, lanes: Mapping[Lane, Head | None]) -> dict[int, int]:
        for lane, head in lanes.items():
            if lane.lane_id not in self._lanes:
                self._add(lane)
            self._stand(lane.lane_id, head)
        return {}

    with patch.object(Board, "compare", compare):
        yield


@bug("a queue that is paused at one scheduler goes on at the others", shared=True, first_seed=3)
def pause_stays_at_home() -> Iterator[None]:
    with _deaf_to(Queue):
        yield


@bug("a scheduler does not hear that a worker has gone to another one", shared=True, first_seed=90)
def moved_workers_stay() -> Iterator[None]:
    with _deaf_to(Worker):
        yield


@bug("a session is ended by a scheduler that does not have it any more", shared=True, first_seed=545)
def end_takes_from_others() -> Iterator[None]:
    def careless(store: Store, now: int, items: Sequence[sessions.End]) -> Any:
        known = {worker.worker_id: worker for worker in store.records(Worker)}
        mine = [replace(item, worker=replace(item.worker, replica_id=_home(known, item.worker))) for item in items]
        return sessions.end(store, now, mine)

    with patch.object(workers, "END", Verb("end", careless)):
        yield


@bug("the end of an old session takes its worker's new one with it", shared=True, first_seed=265)
def end_takes_the_next_session() -> Iterator[None]:
    def careless(store: Store, now: int, items: Sequence[sessions.End]) -> Any:
        ended = sessions.end(store, now, items)
        ids = [(item.worker.worker_id,) for item in items]
        store.put([replace(worker, session_id="") for worker in store.records(Worker, ids)])
        return ended

    with patch.object(workers, "END", Verb("end", careless)):
        yield


@bug(
    "sessions are adopted that somebody else has adopted already, or whose worker has gone elsewhere",
    shared=True,
    first_seed=122,
)
def adopt_without_a_look() -> Iterator[None]:
    def greedy(store: Store, now: int, items: Sequence[sessions.Adopt]) -> Any:
        outcomes = []
        for item in items:
            adopted = [replace(worker, replica_id=item.replica_id) for worker in item.sessions]
            store.put(adopted)
            outcomes.append(adopted)
        return outcomes

    with patch.object(workers, "ADOPT", Verb("adopt", greedy)):
        yield


@bug(
    "adopted sessions are nobody's in memory: the dead workers among them hold their jobs for ever",
    shared=True,
    first_seed=37,
)
def adopted_sessions_are_forgotten() -> Iterator[None]:
    async def nothing(self: workers.Workers, adopted: Any) -> None:
        return None

    with patch.object(workers.Workers, "_take_up", nothing):
        yield


@bug("an adopted session's clocks get no grace", shared=True, first_seed=165)
def adoption_grants_no_grace() -> Iterator[None]:
    with patch.object(expire, "postpone", lambda job, until: job):
        yield


@bug("a scheduler is taken for dead after one beat that did not come", shared=True, first_seed=37)
def dead_after_one_beat() -> Iterator[None]:
    with patch.object(replicas, "DEAD", SECOND // 2):
        yield


@bug("a scheduler that was taken for dead is buried though it beats again", shared=True, first_seed=301)
def buried_alive() -> Iterator[None]:
    def hasty(store: Store, now: int, items: Sequence[numbers.Bury]) -> Any:
        for item in items:
            store.remove(list(item.replicas))
        return [None for _ in items]

    with patch.object(replicas, "BURY", Verb("bury", hasty)), patch.object(replicas, "DEAD", 2 * SECOND):
        yield


@bug(
    "a late answer brings back what was known of a worker before it went to another scheduler",
    shared=True,
    first_seed=134,
)
def late_answer_overwrites_news() -> Iterator[None]:
    with patch.object(State, "is_current", lambda self, worker: True):
        yield


@bug(
    "what a worker was given between its removal at another scheduler and the news of it is left to nobody",
    shared=True,
    first_seed=238,
)
def removed_elsewhere_keeps_what_came_late() -> Iterator[None]:
    begin = Hearsay.__init__

    def careless(self: Hearsay, state: State, workers: Any, *others: Any) -> None:
        begin(self, state, SimpleNamespace(end_later=lambda session: None), *others)  # type: ignore[arg-type]

    with patch.object(Hearsay, "__init__", careless):
        yield


@bug("two schedulers get the same number", shared=True)
def number_given_twice() -> Iterator[None]:
    def same(store: Store, now: int, items: Sequence[numbers.Join]) -> Any:
        outcomes = []
        for item in items:
            mine = Replica(replica_id=1, life=item.life, beat=0, start_time=now)
            store.put([mine])
            outcomes.append(mine)
        return outcomes

    with patch.object(replicas, "JOIN", Verb("join", same)):
        yield


def _home(known: Mapping[int, Worker], worker: Worker) -> int:
    return known[worker.worker_id].replica_id if worker.worker_id in known else worker.replica_id


def _deaf_to(kind: type[Queue | Worker]) -> Any:
    take_in = Hearsay.take_in

    async def deaf(self: Hearsay, changed: Sequence[Any]) -> None:
        await take_in(self, [one for one in changed if one[0] is not kind])

    return patch.object(Hearsay, "take_in", deaf)

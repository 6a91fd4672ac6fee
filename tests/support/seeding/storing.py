"""Mistakes in what is stored and told: commits, numbers, requests, time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from support.seeding.table import bug
from towpath_server.core import clocks
from towpath_server.scheduler.state import Ids, State
from towpath_server.scheduler.timers import Timers
from towpath_server.scheduler.transactions import create
from towpath_server.scheduler.transactions.expire import EXPIRE, Expired, ExpireItem
from towpath_server.store import committer, grouping
from towpath_server.store.committer import Committer
from towpath_server.store.sqlite import store as sqlite


@bug("callers are answered when the writes are done, before COMMIT")
def acknowledge_before_commit() -> Iterator[None]:
    def early(self: Committer, group: list[Any], now: int) -> list[Any]:
        outcomes = []
        with self._store.transaction():
            for writes in grouping.by_verb(group):
                results = writes[0].verb.run(self._store, now, [write.item for write in writes])
                outcomes += [committer._outcome(*pair) for pair in zip(writes, results, strict=True)]
            committer._tell(outcomes)
        return outcomes

    with patch.object(Committer, "_commit_together", early):
        yield


@bug("the numbers of changes begin again with the clock after a restart", first_seed=2)
def sequence_starts_anew() -> Iterator[None]:
    with patch.dict(sqlite._SQL, {"last_sequence": "SELECT 0"}):
        yield


@bug("ids are made from the clock alone, also where it was put back", first_seed=31)
def ids_start_anew() -> Iterator[None]:
    begin = Ids.__init__
    with patch.object(Ids, "__init__", lambda self, wall, rng, since: begin(self, wall, rng, 0)):
        yield


@bug("a lease token is drawn once and used again")
def tokens_repeat() -> Iterator[None]:
    with patch.object(State, "new_token", lambda self: f"{self.ids._last >> 30:032x}"):
        yield


@bug("the request_id of a create is forgotten")
def forget_the_request_id() -> Iterator[None]:
    with patch.object(create, "_known", lambda store, drafts: []):
        yield


@bug("who has a dedupe key is not looked up")
def forget_the_dedupe_key() -> Iterator[None]:
    with patch.object(create, "find_holders", lambda store, definitions: []):
        yield


@bug("an offer that nobody takes stays with its worker for ever")
def offers_live_for_ever() -> Iterator[None]:
    with patch.object(clocks, "OFFER_TTL", 10**15):
        yield


@bug("time is forgotten when the store does not answer", first_seed=92)
def timers_forget_what_is_due() -> Iterator[None]:
    async def run_due(self: Timers) -> None:
        while self._next is not None and self._next <= self._state.clock.wall():
            self._next = None
            expired = await self._state.committer.submit(EXPIRE, ExpireItem(1000, self._state.rng.random))
            self._state.absorb(expired.changes)
            if expired.next_due is not None:
                self.nudge(expired.next_due)

    with patch.object(Timers, "run_due", run_due):
        yield


@bug("watchers are not told of what time brings about")
def time_tells_nobody() -> Iterator[None]:
    told = State._told
    with patch.object(
        State,
        "_told",
        lambda self, outcomes: told(self, [one for one in outcomes if not isinstance(one, Expired)]),
    ):
        yield


@bug("the end of a session is not told to the scheduler's memory")
def lost_jobs_are_not_absorbed() -> Iterator[None]:
    absorb = State.absorb

    def deaf(self: State, changes: Any) -> None:
        absorb(self, [one for one in changes if one.after is None or one.after.lost_count == 0])

    with patch.object(State, "absorb", deaf):
        yield

"""The verbs of `Store` at random, on a model of a few dicts and on every store: all answers are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from support.machines import running
from support.machines import store_values as v
from support.machines.kinds import SHARED_KINDS
from support.machines.running import agree
from support.machines.store_ground import StoreGround, Undone, outcome
from support.store_samples import NOW
from towpath_server.core.job import Attempt, JobState
from towpath_server.core.records import Lane, LogChunk, ModelRecord, Queue, Token, Worker
from towpath_server.store.base import Matching, Query, Record

EXAMPLES, STEPS = 100, 30
# A server is asked over a connection, after every step some eighty times.
SHARED_EXAMPLES = 8


class StoreMachine(StoreGround):
    """Its rules."""

    @initialize(births=v.newborns)
    def with_jobs(self, births: list[v.Birth]) -> None:
        self.change(lambda store: store.add_lanes(v.LANES[:3]))
        self.insert(births)

    # Transactions

    @initialize(number=st.integers(3, len(v.LANES)))
    def with_lanes(self, number: int) -> None:
        self.change(lambda store: store.add_lanes(v.LANES[:number]))

    @precondition(lambda self: not self.transactions)
    @rule()
    def begin(self) -> None:
        self.transactions = [one.store.transaction() for one in self.opened]
        for transaction in self.transactions:
            transaction.__enter__()
        self.model = self.committed.copy()

    @precondition(lambda self: self.transactions)
    @rule()
    def commit(self) -> None:
        outcomes = self.leave(self.transactions, None)
        agree("commit", self.spoiled, outcomes)
        if self.spoiled is None:
            self.committed = self.model
        self.model, self.spoiled = self.committed, None

    @precondition(lambda self: self.transactions)
    @rule()
    def roll_back(self) -> None:
        outcomes = self.leave(self.transactions, Undone())
        agree("roll back", Undone, outcomes)
        self.model, self.spoiled = self.committed, None

    @precondition(lambda self: self.transactions and self.seldom())
    @rule()
    def begin_again(self) -> None:
        self.refused(lambda store: store.transaction().__enter__())

    @precondition(lambda self: not self.transactions and not self.reading and self.seldom())
    @rule()
    def reopen(self) -> None:
        for reader in self.readers:
            reader.close()
        for one in self.opened:
            # What a transaction that was undone has drawn is on disk with the next commit, and can be compared then.
            with one.store.transaction():
                pass
            one.reopen()
        self.readers = [one.store.reader() for one in self.opened]
        # A start takes longer than what was still in memory: numbers go on above all that were given.
        self.now = max(self.now, self.last_sequence) + 1

    # Changes

    @precondition(lambda self: self.spoiled is None)
    @rule(births=v.newborns)
    def insert(self, births: list[v.Birth]) -> None:
        """Jobs with free ids in known lanes; request ids and dedupe keys may be taken."""
        free = {birth[0]: birth for birth in births if birth[0] not in self.model.jobs}
        jobs = [self.newborn(*birth) for birth in free.values() if birth[2].lane_id in self.model.lanes_by_id]
        self.change(lambda store: store.insert(jobs))

    @precondition(lambda self: self.spoiled is None and self.model.jobs and self.seldom())
    @rule(what=st.sampled_from(("id", "lane", "sequence")), birth=v.newborns.map(lambda births: births[0]))
    def insert_wrongly(self, what: str, birth: v.Birth) -> None:
        other = min(self.model.jobs.values(), key=lambda job: job.job_id)
        _, state, lane, _ = birth
        wrong = self.newborn(99, state, lane, {})
        match what:
            case "id":
                wrong = replace(other, sequence=wrong.sequence)
            case "lane":
                wrong = replace(wrong, lane_id=98)
            case "sequence":
                home = self.model.lanes_by_id[other.lane_id]
                wrong = replace(self.newborn(99, state, home, {}), sequence=other.sequence)
        self.change(lambda store: store.insert([wrong]))

    @precondition(lambda self: self.spoiled is None and self.model.jobs)
    @rule(moves=st.lists(st.tuples(v.job_ids, v.states, v.changes), min_size=1, max_size=3, unique_by=lambda m: m[0]))
    def save(self, moves: list[tuple[int, JobState, dict[str, Any]]]) -> None:
        """Into other states, with other words; final jobs only to be tried again."""
        jobs = [self.moved(self.model.jobs[move[0]], *move[1:]) for move in moves if move[0] in self.model.jobs]
        if len(jobs) > 1:
            # Whether a key that is taken and given up by one save clashes is left open.
            jobs = [job for job in jobs if not job.definition.dedupe_key]
        past = [Attempt(job.job_id, 1 + job.revision % 3, 5, NOW, None, None, None) for job in jobs]
        self.change(lambda store: store.save(jobs, past))

    @precondition(lambda self: self.spoiled is None and self.model.jobs)
    @rule(job_id=v.job_ids, times=st.integers(1, 2), by=st.sampled_from((0, 2, -1)))
    def save_wrongly(self, job_id: int, times: int, by: int) -> None:
        """A stale revision, one of the future, or one job twice."""
        other = min(self.model.jobs.values(), key=lambda job: job.job_id)
        job = self.model.jobs.get(job_id, replace(other, job_id=job_id))
        if job.state.is_final:
            times = 1  # Of the right revision it would meet the guard of final states, which only some stores have.
        step = 1 if times == 2 else by
        jobs = [replace(job, revision=max(job.revision + step, 1), sequence=self.number()) for _ in range(times)]
        self.change(lambda store: store.save(jobs))

    @precondition(lambda self: self.spoiled is None and self.seldom())
    @rule(attempts=st.lists(v.attempts, min_size=1, max_size=3))
    def save_attempts(self, attempts: list[Attempt]) -> None:
        self.change(lambda store: store.save([], attempts))

    @precondition(lambda self: self.spoiled is None)
    @rule(job_ids=st.lists(v.job_ids, max_size=3))
    def delete(self, job_ids: list[int]) -> None:
        self.change(lambda store: store.delete(job_ids))

    @precondition(lambda self: self.spoiled is None and self.seldom())
    @rule(lanes=st.lists(v.lanes | v.wrong_lanes, max_size=3))
    def add_lanes(self, lanes: list[Lane]) -> None:
        self.change(lambda store: store.add_lanes(lanes))

    @precondition(lambda self: self.spoiled is None)
    @rule(records=st.lists(v.records, max_size=3), replace=st.booleans())
    def put(self, records: list[Record], replace: bool) -> None:
        self.change(lambda store: store.put(records, replace=replace))

    @precondition(lambda self: self.spoiled is None)
    @rule(records=st.lists(v.records, max_size=3))
    def remove(self, records: list[Record]) -> None:
        self.change(lambda store: store.remove(records))

    @precondition(lambda self: self.spoiled is None)
    @rule(chunks=st.lists(v.chunks, min_size=1, max_size=3))
    def append_logs(self, chunks: list[LogChunk]) -> None:
        self.change(lambda store: store.append_logs(chunks))

    @precondition(lambda self: not self.transactions and self.seldom())
    @rule()
    def change_outside_a_transaction(self) -> None:
        self.refused(lambda store: store.delete(v.JOB_IDS))

    @precondition(lambda self: self.spoiled is None)
    @rule(seconds=st.sampled_from((0, 0, 1, -5)))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    # Questions

    @precondition(lambda self: self.spoiled is None)
    @rule(query=v.queries, limit=v.limits)
    def find(self, query: Query, limit: int) -> None:
        self.ask(lambda store: store.find(query, limit))

    @precondition(lambda self: self.spoiled is None)
    @rule(matching=v.counted)
    def count(self, matching: Matching) -> None:
        self.ask(lambda store: store.count(matching))

    @precondition(lambda self: self.spoiled is None)
    @rule(job_id=v.job_ids, attempt=st.integers(1, 2), offset=st.integers(0, 500), limit=v.limits)
    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> None:
        self.ask(lambda store: store.logs(job_id, attempt, offset, limit))

    @rule(query=v.queries, limit=v.limits)
    def look_by_reader(self, query: Query, limit: int) -> None:
        self.find_by_reader(query, limit)

    def find_by_reader(self, query: Query, limit: int) -> None:
        """Readers see what is committed, or what was when they began."""
        known = (self.read or self.committed).find(query, limit)
        agree("find", known, self.named([reader.find(query, limit) for reader in self.readers]))

    @precondition(lambda self: not self.reading)
    @rule()
    def reader_begins(self) -> None:
        self.reading = [reader.transaction() for reader in self.readers]
        for reader, reading in zip(self.readers, self.reading, strict=True):
            reading.__enter__()
            reader.next_due()
        self.read = self.committed.copy()

    @precondition(lambda self: self.reading)
    @rule()
    def reader_ends(self) -> None:
        agree("reader ends", None, self.leave(self.reading, None))
        self.read = None

    @precondition(lambda self: self.seldom())
    @rule()
    def change_by_reader(self) -> None:
        for reader in self.readers:
            assert outcome(lambda: reader.put([])) in ((None, None), (RuntimeError, None))  # noqa: B023
            assert outcome(lambda: reader.delete(v.JOB_IDS))[0] is RuntimeError  # noqa: B023

    # After every step

    @invariant()
    def all_stores_hold_what_the_model_holds(self) -> None:
        self.steps += 1
        if self.spoiled is not None:
            return
        known = self.model
        stores = [one.store for one in self.opened]
        agree("jobs", known.jobs, self.named([store.load(v.JOB_IDS) for store in stores]))
        agree("lanes", known.lanes(), self.named([list(store.lanes().items()) for store in stores]))
        for final in (False, True):
            due = [store.next_due(final=final) for store in stores]
            agree("next due", known.next_due(final=final), self.named(due))
        agree("tokens", known.records(Token), self.named([store.records(Token) for store in stores]))
        agree("queues", known.records(Queue), self.named([store.records(Queue) for store in stores]))
        agree("workers", known.records(Worker), self.named([store.records(Worker) for store in stores]))
        agree("models", known.records(ModelRecord), self.named([store.records(ModelRecord) for store in stores]))
        for job_id in known.jobs:
            agree("attempts", known.past(job_id), self.named([store.attempts(job_id) for store in stores]))
            agree("logs", known.logs(job_id, 1, 0, 9), self.named([store.logs(job_id, 1, 0, 9) for store in stores]))
        for query in v.ALWAYS:
            agree(f"{query}", known.find(query, 9), self.named([store.find(query, 9) for store in stores]))
        query = v.ALWAYS[self.steps % len(v.ALWAYS)]
        self.find_by_reader(query, 9)


class SharedStoreMachine(StoreMachine):
    """The same rules for the store that several share."""

    kinds = SHARED_KINDS


def run_store_machine(
    seed: int = running.SEED,
    examples: int = EXAMPLES,
    *,
    shrink: bool = False,
    machine: type[StoreMachine] = StoreMachine,
) -> str | None:
    """What went wrong, or None."""
    return running.failure_of(machine, seed, examples, steps=STEPS, shrink=shrink)

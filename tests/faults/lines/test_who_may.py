"""Line 23 of the catalogue: every RPC with every kind of token that does not do, and with other people's things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass, fields
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from support import whole_stores
from support.naming import METHODS, Things, named_in, requests_of, set_in
from support.rpc_stage import Metadata, Stage, stage
from support.who_may import Answer, answer_type, call, described, plain
from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    job_pb2,
    job_service_pb2,
    model_pb2,
    worker_pb2,
    worker_service_pb2,
)
from towpath_server.core.ids import show
from towpath_server.core.records import Role
from towpath_server.rpc.roles import ROLES
from towpath_server.store.memory import MemoryStore

JUNK = b"\xff not even a message"
UNARY, ANSWERS, STREAM = (
    f"/towpath.v1.{name}" for name in ("JobService/GetJob", "JobService/WatchJobs", "WorkerService/ReportJobs")
)


class Traced(MemoryStore):
    """A store that remembers what is asked of it."""

    # Shared with its readers, which are made with the class.
    trace: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.trace = []

    def reader(self) -> Any:
        view = Traced()
        view._source, view.trace = self, self.trace
        return view

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        # What is refused is written down in its own time.
        if not name.startswith("_") and callable(found) and name not in ("transaction", "append_audit"):
            self.trace.append(name)
        return found


@dataclass
class World:
    """A server with somebody's things in its first tenant, and tokens of somebody of that tenant and of another one."""

    at: Stage
    things: Things
    tokens: dict[str, Metadata]

    @property
    def store(self) -> Traced:
        store: Any = self.at.scheduler._store
        assert isinstance(store, Traced)
        return store

    async def call(self, method: str, metadata: Metadata, request: Message | bytes) -> Answer:
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return await call(self.at.channel, method, metadata, raw)

    def kept(self, but: str = "nobody") -> set[str]:
        """All that is kept for the first tenant, but who was refused what, and what this user has."""
        whole = whole_stores.read(self.store)
        del whole["audit"]
        rows = [repr(one) for what in whole.values() for one in what]
        return {row for row in rows if "tenant='default'" in row and f"user='{but}'" not in row}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with stage(Traced()) as at:
        issue = at.scheduler.access.issue
        tokens: dict[str, Metadata] = {}
        for name, tenant, user, role in (
            ("eve", "elsewhere", "admin", Role.ADMIN),
            ("eve's worker", "elsewhere", "admin", Role.WORKER),
            ("bob", "default", "bob", Role.SUBMITTER),
            ("bob's worker", "default", "bob", Role.WORKER),
        ):
            tokens[name] = bearer((await issue(tenant, user, name, role))[1])
        yield World(at, await _things(at), tokens)


def bearer(secret: str) -> Metadata:
    return (("authorization", f"Bearer {secret}"),)


async def _things(at: Stage) -> Things:
    model = model_pb2.Model(model_id=show("mdl", 123456789), name="churn-forecast", version=1)
    model.create_time.GetCurrentTime()
    asked = worker_service_pb2.RegisterWorkerRequest(
        name="barge", slots=2, job_types=["sing"], models=[model], machine=worker_pb2.Machine(hostname="den.home")
    )
    worker = await at.workers.RegisterWorker(asked, metadata=at.bearer())
    over, job = [await at.create(queue="quiet-line", dedupe_key=f"nightly-{n}", labels={"n": f"l-{n}"}) for n in (1, 2)]
    await at.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=over.job_id), metadata=at.bearer())
    first = job_service_pb2.CreateJobRequest(
        job=job_pb2.Job(custom=job_pb2.CustomSpec(type="tarring-rope")), request_id="req-one"
    )
    await at.jobs.CreateJob(first, metadata=at.bearer())
    await at.scheduler.access.issue("default", "cleopatra", "hers", Role.SUBMITTER)
    listed = await at.auth.ListTokens(auth_service_pb2.ListTokensRequest(), metadata=at.bearer())
    return Things(
        job=job.job_id,
        over=over.job_id,
        worker=worker.worker_id,
        session=worker.session_id,
        queue="quiet-line",
        model=model.model_id,
        model_name=model.name,
        token=listed.tokens[-1].token_id,
        dedupe_key="nightly-2",
        request_id="req-one",
        user="cleopatra",
        tenant="default",
    )


def test_line_23_every_field_that_names_something_is_tried() -> None:
    things = Things(*(show("job", 1) if one.name == "job" else show("wkr", 1) for one in fields(Things)))
    for method in ROLES:
        tried = {field for request in requests_of(method, things) if request for field in set_in(request)}
        named = set(named_in(described(method).input_type))
        if method.endswith(("UpdateJob",)):
            # Of this one's job, only what says which it is, is read.
            named = {"job.job_id", "job.etag"}
        assert named <= tried, (method, named - tried)


async def _wrong(at: Stage) -> dict[str, Metadata]:
    """Metadata without a valid token, of every kind."""
    access = at.scheduler.access
    revoked, revoked_secret = await access.issue("default", "admin", "revoked", Role.ADMIN)
    await access.revoke(access.authenticate(at.tokens[Role.ADMIN]), revoked.token_id)
    _, expired_secret = await access.issue("default", "admin", "expired", Role.ADMIN, ttl=-1)
    good = at.tokens[Role.ADMIN]
    wrong: dict[str, Any] = {
        "none": (),
        "revoked": bearer(revoked_secret),
        "expired": bearer(expired_secret),
        "unknown": bearer("tow_" + "0" * 64),
        "empty": (("authorization", ""),),
        "no scheme": (("authorization", good),),
        "other scheme": (("authorization", f"Basic {good}"),),
        "no secret": (("authorization", "Bearer "),),
        "longer": bearer(f"{good}0"),
        "shorter": bearer(good[:-1]),
        "other case": bearer(good.upper()),
        "twice": (*bearer(good), *bearer(good)),
        "long": bearer("x" * 4000),
        "other key": (("x-authorization", f"Bearer {good}"),),
        "junk": (("authorization-bin", b"Bearer \x00\xff" + good.encode()),),
        "two at once": bearer(f"{good},{good}"),
        "percent": bearer(good.replace("_", "%5f")),
    }
    return wrong


async def test_line_23_whatever_is_wrong_with_a_token_the_answer_is_the_same(world: World) -> None:
    wrong = await _wrong(world.at)
    before = world.kept()
    denials: dict[tuple[Any, ...], set[str]] = {}
    for method in ROLES:
        # All kinds of answers and of streams, with all that can be wrong; the others with what is not the same code.
        kinds = (
            list(wrong) if method in (UNARY, ANSWERS, STREAM) else ["none", "revoked", "expired", "unknown", "twice"]
        )
        sound = requests_of(method, world.things)
        for number, kind in enumerate(kinds):
            # Before it is looked at: one that is no message is told nothing else.
            request = JUNK if number % 2 else sound[0]
            answer = await world.call(method, wrong[kind], request)
            denials.setdefault(astuple(answer), set()).add(f"{method} {kind}")
    assert len(denials) == 1, list(denials.values())[1:]
    [(code, text, *_)] = denials
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "Bearer" in text
    assert world.kept() == before


async def test_line_23_a_token_too_long_for_a_header_gets_no_further(world: World) -> None:
    answer = await world.call(UNARY, bearer("x" * 10_240), JUNK)
    assert answer.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_line_23_each_role_may_call_what_the_table_says_and_changes_nothing_else(world: World) -> None:
    before = world.kept()
    for method, roles in ROLES.items():
        sound = requests_of(method, world.things)[0]
        denials = set()
        for role in Role:
            if role in roles:
                # No message at all: whoever gets past the door hears of that.
                answer = await world.call(method, world.at.bearer(role), JUNK)
                assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, (method, role)
            else:
                denials.add(await world.call(method, world.at.bearer(role), sound))
                denials.add(await world.call(method, world.at.bearer(role), JUNK))
        assert len(denials) <= 1, method
        assert {denial.code for denial in denials} <= {grpc.StatusCode.PERMISSION_DENIED}, method
    assert world.kept() == before


@pytest.mark.parametrize("who", ["eve", "bob"])
async def test_line_23_other_people_s_things_answer_as_things_that_never_were(world: World, who: str) -> None:
    before_it, never = world.things.never(1), world.things.never(2)
    assert not set(astuple(never)) & set(astuple(world.things))
    names = dict(zip(astuple(world.things), astuple(never), strict=True))
    before = world.kept(but="bob")
    for method, requests in METHODS.items():
        metadata = await _who(world, who, method)
        if metadata is None:
            continue
        for first, theirs, nobodys in zip(*map(requests, (before_it, world.things, never)), strict=True):
            if who == "bob" and not _are_private(theirs):
                continue
            # What is asked for the first time may be more work, whatever it names.
            await world.call(method, metadata, first)
            told = []
            for request in (theirs, nobodys):
                world.store.trace.clear()
                answer = await world.call(method, metadata, request)
                told.append((plain(method, answer, names), list(world.store.trace)))
            assert told[0] == told[1], (method, theirs)
    assert world.kept(but="bob") == before


async def _who(world: World, who: str, method: str) -> Metadata | None:
    roles = ROLES[method]
    if who == "eve":
        return world.tokens["eve"] if Role.ADMIN in roles else None
    if Role.SUBMITTER in roles:
        return world.tokens["bob"]
    return world.tokens["bob's worker"] if Role.WORKER in roles else None


def _are_private(request: Message) -> bool:
    """Not what all users of a tenant share: its queues; nor whether somebody is there."""
    shared = {"queue", "filter.queue", "job.queue", "name", "user", "filter.user"}
    return not shared & set(set_in(request)) and not isinstance(request, job_service_pb2.BatchCreateJobsRequest)


async def _stats(world: World, metadata: Metadata) -> admin_service_pb2.GetStatsResponse:
    return await world.at.admin.GetStats(admin_service_pb2.GetStatsRequest(), metadata=metadata)


async def test_line_23_nobody_is_shown_what_is_another_s(world: World) -> None:
    at, things = world.at, world.things
    polled = at.workers.LeaseJobs(
        worker_service_pb2.LeaseJobsRequest(
            worker_id=things.worker, session_id=things.session, poll_id="1", max_jobs=1
        ),
        metadata=at.bearer(),
    )
    while not (await _stats(world, at.bearer())).parked_poll_count:
        assert not polled.done()
    for name in ("eve", "bob"):
        stats = await _stats(world, world.tokens[name])
        assert (stats.worker_count, stats.slot_count, stats.parked_poll_count) == (0, 0, 0)
    private = {*astuple(things), "den.home", "barge", "l-1", "l-2", "tarring-rope"}
    for who, shared in (("eve", set[str]()), ("bob", {"default", "quiet-line"})):
        for method, roles in ROLES.items():
            metadata = await _who(world, who, method)
            name = method.rpartition("/")[2]
            if metadata is None or not name.startswith(("List", "Get", "Watch", "WhoAmI")) or not roles:
                continue
            request = job_service_pb2.WatchJobsRequest(from_sequence=1) if name == "WatchJobs" else b""
            answer = await world.call(method, metadata, request)
            if answer.code is not grpc.StatusCode.OK:
                continue
            text = str(answer_type(method).FromString(answer.body))
            assert not {mark for mark in private - shared if mark in text}, (who, method)
    polled.cancel()

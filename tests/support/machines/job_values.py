"""What submitters ask for and what workers say, for the job machine."""

from __future__ import annotations

from hypothesis import strategies as st

from support.machines.fleet_model import LIMITS, POLICIES, Draft
from support.stage import ADA, BOB, EVE, Stage
from towpath_server.core.events import Failed, Progressed, Released, Started, Succeeded
from towpath_server.core.job import SECOND, Definition, Failure, FailureCause, Priority, Requirements
from towpath_server.core.records import Machine, Principal
from towpath_server.scheduler.messages import Logged, NewJob, Registration, WorkerEvent

PEOPLE = {"ada": ADA, "bob": BOB, "eve": EVE}
QUEUES = ("default", "slow")
# A stranger is refused; mostly it is the owner who asks.
callers = st.sampled_from(("owner", "owner", "owner", "owner", "ada", "bob", "eve"))
submitters = st.sampled_from(("ada", "ada", "ada", "bob"))
queues = st.sampled_from(QUEUES)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """A job to create: most of what can be asked for is left out."""
    return Draft(**draw(_ASKED))


_ASKED = st.fixed_dictionaries(
    {},
    optional={
        "queue": queues,
        "job_type": st.sampled_from(("echo", "echo", "train")),
        "cpu": st.sampled_from((0, 0, 4)),
        "priority": st.sampled_from(Priority),
        "request_id": st.sampled_from(("", "", "r", "s")),
        "body": st.sampled_from(("", "", "other")),
        "limits": st.sampled_from(sorted(LIMITS)),
        "retry": st.sampled_from(sorted(POLICIES)),
        "max_lost": st.integers(0, 2),
        "later": st.sampled_from((0, 0, 0, 3, 30)),
    },
)

# What is said of an attempt, in any order and again.
sayings = st.sampled_from(
    ("started", "progress", "succeeded", "failed", "hopeless", "released", "unable", "log", "started", "succeeded")
)
whose = st.sampled_from(("latest", "latest", "latest", "older", "empty"))
commands = st.sampled_from(
    ("cancel", "cancel at once", "pause", "resume", "resume", "retry", "raise", "lower", "delete")
)
# Which leases a worker says that it holds.
namings = st.sampled_from(("all it ever had", "what it holds", "one of them", "what anybody ever had", "nothing"))
seconds = st.sampled_from((0.0, 0.5, 1, 3, 3, 6, 6, 9.999999, 10, 14.999999, 15, 31))


def new_job(draft: Draft, now: int) -> NewJob:
    """The draft as the scheduler takes it."""
    definition = Definition(
        tenant="",
        user="",
        job_type=draft.job_type,
        queue=draft.queue,
        request_id=draft.request_id,
        request_hash=draft.body.encode(),
        timeouts=LIMITS[draft.limits],
        retry=POLICIES[draft.retry],
        max_lost=draft.max_lost,
        requirements=Requirements(cpu_count=draft.cpu),
        schedule_time=None if draft.later is None else now + draft.later * SECOND,
    )
    return NewJob(definition, draft.priority)


def registration(worker_id: int | None, job_types: tuple[str, ...], cpu: int) -> Registration:
    """A worker as the scheduler takes it."""
    machine = Machine(cpu_count=cpu, memory_mb=4096, hostname="box")
    return Registration(worker_id=worker_id, name="box", slots=2, job_types=job_types, machine=machine)


def event(saying: str, token: str) -> WorkerEvent:
    """What is said, under a token."""
    match saying:
        case "started":
            return Started(token)
        case "progress":
            return Progressed(token, None)
        case "succeeded":
            return Succeeded(token, b"result")
        case "released" | "unable":
            return Released(token, "", saying == "unable")
        case "log":
            return Logged(token, 0, "line\n", 1, 0)
    return Failed(token, Failure(FailureCause.HANDLER, "ValueError", "no", retryable=saying == "failed"), 0.5)


def caller(name: str, owner: tuple[str, str] | None) -> Principal:
    """Who calls."""
    if name == "owner":
        return next((one for one in PEOPLE.values() if (one.tenant, one.user) == owner), ADA)
    return PEOPLE[name]


async def commanded(stage: Stage, what: str, who: Principal, job_id: int) -> object:
    """The scheduler's verb for a command."""
    jobs = stage.scheduler.jobs
    match what:
        case "cancel" | "cancel at once":
            return await jobs.cancel(who, job_id, "enough", what == "cancel at once")
        case "pause":
            return await jobs.pause(who, job_id)
        case "resume":
            return await jobs.resume(who, job_id)
        case "retry":
            return await jobs.retry(who, job_id)
        case "delete":
            await jobs.delete(who, job_id)
            return None
    priority = Priority.CRITICAL if what == "raise" else Priority.LOW
    return await jobs.update(who, job_id, lambda asked, _: (asked, priority), None)

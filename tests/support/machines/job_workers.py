"""What workers do: begin and end sessions, poll, tell what becomes of jobs, and show that they live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from support.machines import job_values as v
from support.machines.fleet_model import LEASE_TTL, Session
from support.machines.job_ground import Call, Ground, Lease, address, leases
from support.machines.life_model import Life
from support.machines.running import agree
from support.stage import Stage
from towpath_server.core.errors import SessionUnknown
from towpath_server.core.job import Job
from towpath_server.core.records import Principal
from towpath_server.scheduler.messages import Heartbeat, HeldLease, Registered, Report

CROWD = 4


class Workers(Ground):
    """Their rules."""

    jobs = Ground.jobs
    workers = Ground.workers

    @precondition(lambda self: len(self.fleet.living()) < CROWD)
    @rule(
        target=workers,
        who=v.submitters,
        job_types=st.sampled_from((("echo",), ("echo", "train"))),
        cpu=st.sampled_from((2, 8)),
    )
    def register(self, who: str, job_types: tuple[str, ...], cpu: int) -> int:
        return self.begin(v.PEOPLE[who], None, job_types, cpu, ())

    @rule(worker=workers, names=v.namings)
    def register_again(self, worker: int, names: str) -> None:
        old = self._session(worker)
        named = self._naming(old, names)
        self.begin(old.who, old, old.job_types, old.cpu, named)

    @precondition(lambda self: self.held())
    @rule(worker=workers)
    def deregister(self, worker: int) -> None:
        session = self._session(worker)
        expected = None if session.lives else SessionUnknown
        if session.lives:
            self.fleet.end(session, released=True)
        self.all(lambda stage: stage.scheduler.workers.deregister(*address(session)), expected, home=session)

    @precondition(lambda self: self.seldom())
    @rule(worker=workers, slots=st.integers(1, 3))
    def poll(self, worker: int, slots: int) -> None:
        self.poll_for(worker, slots)

    def poll_for(self, worker: int, slots: int) -> None:
        """Take what is there: the best, in order."""
        session = self._session(worker)
        expected = None if session.lives else SessionUnknown
        best = [job.job_id for job in self.fleet.for_worker(session)[:slots]]
        poll_id = self.new_poll(session)

        def took(answers: Mapping[str, list[Job]]) -> None:
            handed = {name: leases(jobs) for name, jobs in answers.items()}
            agree("the best first", best, {name: [job_id for job_id, _ in some] for name, some in handed.items()})
            self.hand_out(session, poll_id, handed)

        self.all(
            lambda stage: stage.scheduler.workers.lease(*address(session), poll_id, slots, 0),
            expected,
            took,
            home=session,
        )

    @precondition(lambda self: self.served())
    @rule(nth=st.integers(0, 2), starts=st.booleans())
    def work(self, nth: int, starts: bool) -> None:
        """One of the workers for whom there is work takes the best of it."""
        served = self.served()
        session = served[nth % len(served)]
        self.poll_for(session.number, 1)
        if starts:
            self.report_of_any(session.given[-1][0], "latest", ["started"])

    @precondition(lambda self: self.answered)
    @rule(worker=workers)
    def poll_again(self, worker: int) -> None:
        """The same poll_id gets the same leases, as far as they stand."""
        session = self._session(worker)
        poll_id, handed = self.answered.get(session.session_id, ("", []))
        if not session.lives or poll_id == "" or poll_id != self.latest[session.session_id]:
            return
        standing = [lease for lease in handed if lease in self._naming(session, "what it holds")]
        answers = self.all(lambda stage: stage.scheduler.workers.lease(*address(session), poll_id, 1, 0), home=session)
        agree("the same poll", standing, {name: leases(jobs) for name, jobs in answers.items()})

    @precondition(lambda self: self.calls)
    @rule(last=st.booleans())
    def give_up_poll(self, last: bool) -> None:
        """The worker does not wait any more."""
        call = self.calls.pop(-1 if last else 0)
        for task in call.tasks:
            task.cancel()
        self.end_of([call])
        self.answered.pop(call.session.session_id, None)
        self.settle()

    @precondition(lambda self: self.held())
    @rule(nth=st.integers(0, 2), whose=v.whose, sayings=st.lists(v.sayings, min_size=1, max_size=3))
    def report_of_held(self, nth: int, whose: str, sayings: list[str]) -> None:
        """Of a job that somebody holds, or held until it was thought lost."""
        held = self.held()
        self.report_of_any(held[nth % len(held)], whose, sayings)

    @precondition(lambda self: self.held())
    @rule()
    def start_all(self) -> None:
        for job in self.held():
            self.report_of_any(job, "latest", ["started"])

    @precondition(lambda self: self.idle())
    @rule(nth=st.integers(0, 2), slots=st.integers(1, 2))
    def park(self, nth: int, slots: int) -> None:
        """One of the workers for whom there is no work polls and waits."""
        idle = self.idle()
        session = idle[nth % len(idle)]
        poll_id = self.new_poll(session)
        stages = [one.at(session.session_id) for one in self.lived]
        polls = [stage.scheduler.workers.lease(*address(session), poll_id, slots, None) for stage in stages]
        self.calls.append(Call(session, poll_id, slots, [self.loop.create_task(poll) for poll in polls]))
        self.settle()

    # Under a second name it is taken twice as often: without work nothing comes far.
    work_on = work
    park_too = park
    report_of_held_too = report_of_held

    @precondition(lambda self: self.seldom())
    @rule(job=jobs, whose=v.whose, sayings=st.lists(v.sayings, min_size=1, max_size=3))
    def report(self, job: int, whose: str, sayings: list[str]) -> None:
        self.report_of_any(job, whose, sayings)

    def report_of_any(self, job: int, whose: str, sayings: list[str]) -> None:
        """One message about a job, from who holds it or from another: the token decides, and whose it was."""
        life = self.fleet.jobs.get(job)
        tokens = ["made up", *(life.tokens if life is not None else ())]
        token = {"latest": tokens[-1], "older": tokens[max(len(tokens) - 2, 0)], "empty": ""}[whose]
        session = self._reporter(life)
        if session is None:
            return
        self.fleet.heard(session)
        had = life.deliveries.get(life.attempt) if life is not None else None
        for saying in sayings:
            if life is not None and had is not None and had[0] == session.worker_id:
                self._say(life, saying, token)
        reports = [Report(number, job, v.event(saying, token)) for number, saying in enumerate(sayings, start=1)]

        async def tell(stage: Stage) -> int:
            return await stage.scheduler.workers.connect(*address(session)).report(reports)

        self.all(tell, home=session)

    @precondition(lambda self: self.held() or self.seldom())
    @rule(worker=workers, names=v.namings, times=st.integers(1, 3))
    def heartbeats(self, worker: int, names: str, times: int) -> None:
        session = self._session(worker)
        if not session.lives:
            return
        for _ in range(times):
            named = self._naming(session, names)
            self.fleet.beat(session, named)
            beat = Heartbeat(tuple(HeldLease(*lease) for lease in named))

            async def tell(stage: Stage, beat: Heartbeat = beat) -> None:
                stage.scheduler.workers.connect(*address(session)).heartbeat(beat)

            self.all(tell, home=session)

    # How

    def begin(
        self,
        who: Principal,
        old: Session | None,
        job_types: tuple[str, ...],
        cpu: int,
        named: Sequence[tuple[int, str]],
    ) -> int:
        """Begin a session on all; the worker's number."""
        asked = v.registration(old.worker_id if old is not None else None, job_types, cpu)
        asked = replace(asked, held=tuple(HeldLease(*lease) for lease in named))
        number = old.number if old is not None else len({session.number for session in self.fleet.sessions})

        def begun(answers: Mapping[str, Registered]) -> None:
            agree("sessions", next(iter(answers.values())), answers)
            given = next(iter(answers.values()))
            for one in self.lived:
                one.begun(given.session_id)
            session = Session(
                number, given.worker_id, given.session_id, who, job_types, cpu, self.fleet.steady + LEASE_TTL
            )
            self.fleet.begin(session, old, named)

        self.all(lambda stage: stage.scheduler.workers.register(who, asked), None, begun)
        return number

    def _naming(self, session: Session, names: str) -> list[Lease]:
        held = [(job.job_id, job.lease.token) for job in self.fleet.held_by(session) if job.lease]
        everything = [lease for one in self.fleet.sessions for lease in one.given]
        return {
            "all it ever had": session.given,
            "what it holds": held,
            "one of them": held[:1],
            "what anybody ever had": everything,
            "nothing": [],
        }[names]

    def _session(self, worker: int) -> Session:
        return [session for session in self.fleet.sessions if session.number == worker][-1]

    def _reporter(self, life: Life | None) -> Session | None:
        living = self.fleet.living()
        holds = [one for one in living if life and life.lease and life.lease.session_id == one.session_id]
        return next(iter(holds + living), None)

    def _say(self, life: Life, saying: str, token: str) -> None:
        now = self.fleet.now
        match saying:
            case "started":
                life.started(token, now)
            case "progress":
                life.progressed(token, now)
            case "succeeded":
                life.succeeded(token, now)
            case "failed" | "hopeless":
                life.failed(token, now, retryable=saying == "failed")
            case "released" | "unable":
                life.released(token, now, unable=saying == "unable")
            case "log" if life.limits.stall is not None and life.start_time is not None:
                life.progressed(token, now)

"""Clients that submit, repeat, steer and watch through every outage, and write down all that they are told."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from support.history import Acknowledged, Asked, History, Refused, Steered, Told
from towpath import Client, requests
from towpath.errors import DeadlineExceeded, FailedPrecondition, TowpathError, Unavailable
from towpath.options import JobOptions
from towpath.types import RetryPolicy
from towpath.v1 import job_pb2, job_service_pb2

JOB_TYPE = "recorded.run"
QUICK_RETRIES = RetryPolicy(max_attempts=3, initial_backoff=0.01, max_backoff=0.02)
ONE_RETRY = RetryPolicy(max_attempts=2, initial_backoff=0.01, max_backoff=0.02)
ALWAYS = 10_000
PATIENCE = 120.0
SHORT_PATIENCE = 2.0
# Too short for the longer delays between tries: whoever must see the end of an outage at once.
HURRY = 1.5
MAX_LOST = 1000

Create = job_service_pb2.CreateJobRequest


@dataclass
class Shared:
    """What all clients of a run have in common."""

    address: str
    token: str
    runs: str
    history: History
    backlog: int
    # Nothing new is submitted beyond so many acknowledgements.
    budget: int = 0
    # How many jobs wait or run, as last heard.
    active: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)
    # The newest jobs, for those who watch and steer.
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    paused: set[str] = field(default_factory=set)
    # The last revision of each job, once nothing more will happen.
    ends: dict[str, int] | None = None


class Observer:
    """One who hears of jobs, one thing after the other."""

    def __init__(self, shared: Shared, name: str, seed: int) -> None:
        self.shared = shared
        self.name = name
        self.chance = random.Random(f"{seed} {name}")

    def hear(self, job: job_pb2.Job) -> None:
        """Write down how a job stands."""
        self.shared.history.told.append(Told(self.name, job.job_id, state_of(job), int(job.etag), result_of(job)))

    def client(self, timeout: float = PATIENCE) -> Client:
        """A client that stays through outages from the first call on, when others think of a wrong address."""
        client = Client(self.shared.address, self.shared.token, timeout=timeout)
        client._connection.answered = True
        return client

    def work(self) -> None:
        """What its thread does. An exception is a fault of the run."""
        try:
            self.run()
        except Exception as error:  # noqa: BLE001
            self.shared.faults.append(f"{self.name}: {error!r}")

    def run(self) -> None:
        raise NotImplementedError


class Submitter(Observer):
    """Submits jobs, singly and in batches; repeats what was not answered, and now and then what was; steers some."""

    def __init__(self, shared: Shared, name: str, seed: int, batch: int) -> None:
        super().__init__(shared, name, seed)
        self._batch = batch
        self._number = 0
        self._unsure: list[list[Create]] = []
        self._sent: deque[list[Create]] = deque(maxlen=20)

    def run(self) -> None:
        shared = self.shared
        with self.client() as patient, self.client(HURRY) as hasty:
            while not shared.stop.is_set():
                if shared.active > shared.backlog or len(shared.history.acknowledged) > shared.budget:
                    shared.stop.wait(0.02)
                    continue
                client = hasty if self.chance.random() < 0.8 else patient
                self._send(client, self._next())
                if self.chance.random() < 0.3 and shared.recent:
                    self._steer(client, self.chance.choice(list(shared.recent)))
            while self._unsure:
                self._send(patient, self._unsure.pop())

    def _next(self) -> list[Create]:
        dice = self.chance.random()
        if self._unsure and dice < 0.5:
            return self._unsure.pop()
        if self._sent and dice < 0.1:
            return self.chance.choice(self._sent)
        return [self._new() for _ in range(1 if dice > 0.8 else self.chance.randint(2, self._batch))]

    def _new(self) -> Create:
        self._number += 1
        request_id = f"{self.name}-{self._number}"
        params: dict[str, Any] = {"path": self.shared.runs, "body": f"body-{request_id}"}
        options, ends = JobOptions(max_lost=MAX_LOST, retries=QUICK_RETRIES, cancel_grace=2.0), ("SUCCEEDED",)
        dice = self.chance.random()
        if dice < 0.04:
            params["failures"], options["retries"], ends = ALWAYS, ONE_RETRY, ("FAILED",)
        elif dice < 0.10:
            params["failures"] = 1
        elif dice < 0.12:
            params["seconds"] = self.chance.uniform(0.1, 0.5)
        elif dice < 0.16:
            options["delay"] = self.chance.uniform(0.1, 2.0)
        if dice > 0.95:
            options["priority"] = "high"
        self.shared.history.asked.append(Asked(request_id, params["body"], ends))
        create = requests.create(requests.job_of(JOB_TYPE, params), options)
        create.request_id = request_id
        return create

    def _send(self, client: Client, creates: list[Create]) -> None:
        connection = client._connection
        try:
            if len(creates) == 1:
                jobs: Sequence[job_pb2.Job] = [connection.call(connection.stubs.jobs.CreateJob, creates[0]).job]
            else:
                batch = job_service_pb2.BatchCreateJobsRequest(requests=creates)
                jobs = connection.call(connection.stubs.jobs.BatchCreateJobs, batch).jobs
        except (Unavailable, DeadlineExceeded):
            self._unsure.append(creates)
            return
        except TowpathError as error:
            self.shared.history.refused += [Refused(one.request_id, repr(error)) for one in creates]
            return
        self.shared.history.acknowledged += [
            Acknowledged(one.request_id, job.job_id) for one, job in zip(creates, jobs, strict=True)
        ]
        for job in jobs:
            # The answer to a create tells no result.
            if state_of(job) != "SUCCEEDED":
                self.hear(job)
        self.shared.recent.append(self.chance.choice(jobs).job_id)
        self._sent.append(creates)

    def _steer(self, client: Client, job_id: str) -> None:
        verb = self.chance.choice(["cancel", "cancel", "retry", "retry", "pause"])
        if verb == "pause":
            self.shared.paused.add(job_id)
        self.steer(client, job_id, verb)
        if verb == "pause" and self.chance.random() < 0.7:
            self.steer(client, job_id, "resume")

    def steer(self, client: Client, job_id: str, verb: str) -> bool:
        """One call, sent once; whether it was answered."""
        stubs = client._connection.stubs.jobs
        calls: dict[str, tuple[Any, Any]] = {
            "cancel": (stubs.CancelJob, job_service_pb2.CancelJobRequest(job_id=job_id)),
            "retry": (stubs.RetryJob, job_service_pb2.RetryJobRequest(job_id=job_id)),
            "pause": (stubs.PauseJob, job_service_pb2.PauseJobRequest(job_id=job_id)),
            "resume": (stubs.ResumeJob, job_service_pb2.ResumeJobRequest(job_id=job_id)),
        }
        method, request = calls[verb]
        try:
            job = client._connection.call(method, request, retry=False, timeout=SHORT_PATIENCE).job
        except FailedPrecondition:
            return True
        except TowpathError:
            self.shared.history.steered.append(Steered(job_id, verb))
            return False
        self.shared.history.steered.append(Steered(job_id, verb, state_of(job), int(job.etag)))
        return True


class Gauge(Observer):
    """Keeps an eye on how much there is to do."""

    def run(self) -> None:
        with self.client() as client:
            while not self.shared.stop.wait(0.2):
                self.shared.active = client.stats().active_count


class Watcher(Observer):
    """Takes one of the newest jobs after the other, and watches it or waits for it until it is final."""

    def run(self) -> None:
        with self.client() as client:
            while not self.shared.stop.is_set():
                if not self.shared.recent:
                    self.shared.stop.wait(0.02)
                    continue
                handle = client.job(self.chance.choice(list(self.shared.recent)))
                if self.chance.random() < 0.5:
                    for event in handle.events():
                        self.hear(event.job._message)
                else:
                    self.hear(handle.wait()._message)


def state_of(job: job_pb2.Job) -> str:
    """Its name without the prefix."""
    return job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")


def result_of(job: job_pb2.Job) -> str:
    """The run that the result names."""
    return job.result.custom.value.string_value

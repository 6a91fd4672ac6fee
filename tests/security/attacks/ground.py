"""What every attack needs: a way to the scheduler, throwaway users, and a verdict."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import duration_pb2

from towpath.v1 import auth_service_pb2, fleet_service_pb2, job_pb2, job_service_pb2, worker_service_pb2
from towpath.v1.admin_service_pb2_grpc import AdminServiceStub
from towpath.v1.auth_service_pb2_grpc import AuthServiceStub
from towpath.v1.fleet_service_pb2_grpc import FleetServiceStub
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.queue_service_pb2_grpc import QueueServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

C = grpc.StatusCode
HELD, FELL, SKIPPED, BROKE = "held", "FELL", "skipped", "BROKE"
Metadata = tuple[tuple[str, str], ...]
SECONDS = 30.0
# What an answer may never show of the inside: `towpath_server`, a file of Python, a trace, a path.
INSIDE = ("Traceback", "towpath_server", ".py", "Error(", "site-packages", "<class", "sqlite", "/home/", "/usr/")


@dataclass(frozen=True)
class Verdict:
    """What came of one attack."""

    attack: str
    tried: str
    came_back: str
    verdict: str


class Skipped(Exception):
    """This attack cannot be tried here; the message says why."""


class Fell(Exception):
    """It went through; the message says what came back."""


@dataclass(frozen=True)
class Party:
    """A user, and what it may call."""

    channel: grpc.Channel
    secret: str = field(repr=False, default="")
    token_id: str = ""
    user: str = ""
    jobs: Any = field(init=False, repr=False)
    workers: Any = field(init=False, repr=False)
    auth: Any = field(init=False, repr=False)
    fleet: Any = field(init=False, repr=False)
    queues: Any = field(init=False, repr=False)
    admin: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, stub in (
            *(("jobs", JobServiceStub), ("workers", WorkerServiceStub), ("auth", AuthServiceStub)),
            *(("fleet", FleetServiceStub), ("queues", QueueServiceStub), ("admin", AdminServiceStub)),
        ):
            object.__setattr__(self, name, stub(self.channel))

    @property
    def me(self) -> Metadata:
        """What its calls carry."""
        return (("authorization", f"Bearer {self.secret}"),)

    def code(self, method: Any, request: Any) -> tuple[grpc.StatusCode, str]:
        """What a call comes to, and its words."""
        return code_of(lambda: method(request, metadata=self.me, timeout=SECONDS))


def code_of(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """What a call comes to, and its words; a stream is read to its first answer."""
    try:
        answer = call()
        if hasattr(answer, "cancel"):
            next(iter(answer), None)
            answer.cancel()
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code(), failed.details() or ""
    return C.OK, ""


@dataclass
class Target:
    """The scheduler that is attacked, and what was made there."""

    address: str
    dial: Callable[[], grpc.Channel]
    secret: str = field(repr=False, default="")
    data_dirs: tuple[Path, ...] = ()
    models_dir: Path | None = None
    logs: tuple[Path, ...] = ()
    tls: bool = False
    seconds: float = 60.0
    _made: list[str] = field(default_factory=list)
    _jobs: list[str] = field(default_factory=list)
    _workers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channel = self.dial()
        self.owner = Party(self.channel, self.secret)
        self.nobody = Party(self.channel)

    def party(self, role: Any, *, user: str = "", tenant: str = "") -> Party:
        """A throwaway user with a token of ten minutes. Raises `Skipped` where the given token may not make one."""
        user = user or f"attack-{secrets.token_hex(4)}"
        request = auth_service_pb2.CreateTokenRequest(
            name="attack", user=user, role=role, tenant=tenant, ttl=duration_pb2.Duration(seconds=600)
        )
        try:
            made = self.owner.auth.CreateToken(request, metadata=self.owner.me, timeout=SECONDS)
        except grpc.RpcError as error:
            failed: Any = error
            raise Skipped(f"needs a token that may make others ({failed.code().name})") from None
        self._made.append(made.token.token_id)
        return Party(self.channel, made.secret, made.token.token_id, user)

    def submit(self, by: Party, job: job_pb2.Job | None = None) -> job_pb2.Job:
        """A throwaway job; without one of its own it is of a type that no worker has."""
        job = job or job_pb2.Job(custom=job_pb2.CustomSpec(type="attack.nothing"))
        request = job_service_pb2.CreateJobRequest(job=job)
        made: job_pb2.Job = by.jobs.CreateJob(request, metadata=by.me, timeout=SECONDS).job
        self._jobs.append(made.job_id)
        return made

    def register(self, by: Party, name: str = "attack") -> Any:
        """A throwaway worker; its session."""
        request = worker_service_pb2.RegisterWorkerRequest(name=name, slots=1, job_types=["attack.nothing"])
        session = by.workers.RegisterWorker(request, metadata=by.me, timeout=SECONDS)
        self._workers.append(session.worker_id)
        return session

    def alive(self) -> str:
        """Raises `Fell` where the scheduler does not answer any more."""
        code, words = self.owner.code(self.owner.auth.WhoAmI, auth_service_pb2.WhoAmIRequest())
        if code is not C.OK:
            raise Fell(f"the scheduler does not answer any more: {code.name} {words}")
        return "it goes on"

    def clean(self) -> None:
        """Take away everything that was made."""
        for job_id in self._jobs:
            cancel = job_service_pb2.CancelJobRequest(job_id=job_id, force=True)
            delete = job_service_pb2.DeleteJobRequest(job_id=job_id)
            self.owner.code(self.owner.jobs.CancelJob, cancel)
            self.owner.code(self.owner.jobs.DeleteJob, delete)
        for worker_id in self._workers:
            remove = fleet_service_pb2.RemoveWorkerRequest(worker_id=worker_id)
            self.owner.code(self.owner.fleet.RemoveWorker, remove)
        for token_id in self._made:
            request = auth_service_pb2.RevokeTokenRequest(token_id=token_id)
            self.owner.code(self.owner.auth.RevokeToken, request)
        self.channel.close()


Attack = Callable[[Target], str]
ATTACKS: list[tuple[str, str, Attack]] = []


def attack(name: str, tried: str) -> Callable[[Attack], Attack]:
    """Put an attack on the list. It says what came back, or raises `Fell` or `Skipped`."""

    def keep(function: Attack) -> Attack:
        ATTACKS.append((name, tried, function))
        return function

    return keep


def run(target: Target, only: Sequence[str] = (), without: Sequence[str] = ()) -> Iterator[Verdict]:
    """Try one after the other: all, or `only` those with these names."""
    for name, tried, function in ATTACKS:
        if name in without or (only and name not in only):
            continue
        try:
            yield Verdict(name, tried, function(target), HELD)
        except Fell as error:
            yield Verdict(name, tried, str(error), FELL)
        except Skipped as error:
            yield Verdict(name, tried, str(error), SKIPPED)
        except grpc.RpcError as error:
            failed: Any = error
            yield Verdict(name, tried, f"{failed.code().name}: {failed.details()}", FELL)
        except Exception as error:  # noqa: BLE001 - the attack itself is at fault; the others go on
            yield Verdict(name, tried, f"could not be tried: {type(error).__name__}: {error}", BROKE)


def expect(found: set[tuple[grpc.StatusCode, str]], *codes: grpc.StatusCode, same_words: bool = False) -> str:
    """The answers in words. Raises `Fell` where one has another code, differs in words, or shows the inside."""
    shown = ", ".join(sorted({code.name for code, _ in found}))
    wrong = [f"{code.name} {words}" for code, words in found if code not in codes]
    if wrong:
        raise Fell(wrong[0][:200])
    for _, words in found:
        if leak := [one for one in INSIDE if one in words]:
            raise Fell(f"an answer shows {leak[0]}: {words[:200]}")
    if same_words and len(found) > 1:
        raise Fell(f"the answers differ: {sorted(words for _, words in found)[:2]}")
    return shown

"""The API for those who write handlers: `@handler` and `Context`."""

from __future__ import annotations

import inspect
import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from towpath_worker.errors import Cancelled

if TYPE_CHECKING:
    from towpath_worker.paths import Folders

JOB_TYPE_ATTRIBUTE = "__towpath_job_type__"
JOB_TYPE_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
BUILT_IN_TYPES = ("train", "predict", "list_models")

F = TypeVar("F", bound=Callable[..., Any])

registered: dict[str, Callable[..., Any]] = {}
#: The job types whose handlers run in the worker's own process.
inlined: set[str] = set()


def handler(job_type: str, *, inline: bool = False) -> Callable[[F], F]:
    """Makes a function the handler of a job type.

    The function's first parameter is the Context; the job's parameters are given to the others by name. It may be
    `async def`. What it returns goes to the submitter as JSON. ValueError for a name that cannot be a job type or is
    taken, TypeError for a function without a first parameter.

    `inline=True` is for tiny work, of milliseconds: the function runs in the worker's own process, an `async def` in
    its event loop and any other function in one of its threads. That costs a hundredth of a child process and has its
    price. Nothing is isolated: a crash or `sys.exit` in C code ends the worker, and an `async def` that blocks holds up
    all its jobs and heartbeats. A job is stopped by its own will alone: an `async def` is cancelled as a task is,
    another function must look at `ctx.cancelled`, and neither is ever killed. What it prints goes to the worker's
    output; only `ctx.log` goes to the job's log.
    """
    if not JOB_TYPE_PATTERN.fullmatch(job_type):
        raise ValueError(
            f"{job_type!r} cannot be a job type: write a letter, then letters, digits and . _ - (at most 100)."
        )
    if job_type in BUILT_IN_TYPES:
        raise ValueError(f"{job_type!r} is built in. Choose another job type.")

    def register(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise TypeError(f"{function.__qualname__} needs a first parameter: `def {function.__name__}(ctx, ...)`.")
        taken = registered.get(job_type)
        if taken is not None and _home(taken) != _home(function):
            raise ValueError(
                f"Job type {job_type!r} has two handlers: {'.'.join(_home(taken))} and {'.'.join(_home(function))}."
            )
        setattr(function, JOB_TYPE_ATTRIBUTE, job_type)
        registered[job_type] = function
        (inlined.add if inline else inlined.discard)(job_type)
        return function

    return register


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """How far a job is, as its handler said last."""

    percent: float | None = None
    message: str = ""
    phase: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    eta: float | None = None


NOTHING_YET = ProgressUpdate()


class Stopping(Protocol):
    """The wish that a job stops: a threading.Event, or less."""

    def is_set(self) -> bool: ...


class Teller(Protocol):
    """Where a Context's words go."""

    def progress(self, update: ProgressUpdate) -> None: ...

    def log(self, text: str) -> None: ...


class Context:
    """What a handler knows about its job, and how it speaks while it runs. Safe to use from several threads."""

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int,
        workdir: Path | Callable[[], Path],
        folders: Folders,
        worker_id: str = "",
        tenant: str = "",
        user: str = "",
        threads: int = 1,
        lease_token: str = "",
        teller: Teller,
        stop: Stopping | None = None,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self._workdir = workdir
        #: What the worker's owner lets jobs read and write.
        self.folders = folders
        self.worker_id = worker_id
        self.tenant = tenant
        self.user = user
        #: How many threads the job should use: the machine's cores divided by the worker's slots.
        self.threads = threads
        #: With the job's id it names this attempt's lease. Tell nobody.
        self.lease_token = lease_token
        self._teller = teller
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._update = NOTHING_YET

    @property
    def workdir(self) -> Path:
        """An empty folder of this attempt's own: made when it is first asked for, removed after the attempt."""
        with self._lock:
            if not isinstance(self._workdir, Path):
                self._workdir = self._workdir()
            return self._workdir

    def progress(
        self,
        percent: float | None = None,
        message: str = "",
        *,
        phase: str = "",
        metrics: Mapping[str, float] | None = None,
        eta: float | None = None,
    ) -> None:
        """Says how far the job is: percent 0 to 100, eta in seconds. What is left out stays as it was, but for eta.

        Cheap: call it as often as you like, the newest is sent about ten times a second. Metrics are merged by name;
        those that are not finite are left out.
        """
        finite = {str(name): float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        known = None if percent is None or math.isnan(percent) else min(100.0, max(0.0, float(percent)))
        with self._lock:
            last = self._update
            self._update = ProgressUpdate(
                percent=last.percent if known is None else known,
                message=message or last.message,
                phase=phase or last.phase,
                metrics={**last.metrics, **finite},
                eta=float(eta) if eta is not None and math.isfinite(eta) and eta >= 0 else None,
            )
            self._teller.progress(self._update)

    def metric(self, name: str, value: float) -> None:
        """Sets one figure beside the progress."""
        self.progress(metrics={name: value})

    def log(self, text: str) -> None:
        """Writes a line to the job's log."""
        self._teller.log(text if text.endswith("\n") else text + "\n")

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop. Look often: after a grace its process is killed."""
        return self._stop.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled if the job was asked to stop."""
        if self._stop.is_set():
            raise Cancelled


def _home(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__

"""A child process: imports the handlers once, then runs one job after the other and tells its worker what they do."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import frames, portable, registry, results
from towpath_worker.errors import Cancelled, InvalidInput
from towpath_worker.frames import Kind
from towpath_worker.handler import Context
from towpath_worker.paths import Folders
from towpath_worker.plan import attempt_name
from towpath_worker.teller import PipeTeller

MAX_MESSAGE = 4_000
MAX_TRACEBACK = 16_000
OWN_FILES = frozenset({__file__, registry.__file__})


class Child:
    """One child process, from its start to the end of its last job."""

    def __init__(self, commands: int, reports: int) -> None:
        self._commands = commands
        self._send = _sender(reports)
        self._jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._setup: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._outputs = [os.dup(1), os.dup(2)]
        self._stop = threading.Event()
        self._on_cancel: list[Callable[[], object]] = []

    def serve(self) -> None:
        """Runs jobs until the worker closes the pipe."""
        threading.Thread(target=self._listen, name="towpath-commands", daemon=True).start()
        facts, _ = frames.unpack(self._setup.get())
        sys.path[:] = [*facts["path"], *(one for one in sys.path if one not in facts["path"])]
        try:
            served = registry.load(facts["modules"], facts["allow"])
            self._send(Kind.TYPES, frames.pack({"types": served}))
            registry.preload(served)
        except registry.Unservable as error:
            self._send(Kind.TYPES, frames.pack({"error": str(error)}))
            return
        folders = Folders(
            data=tuple(Path(one) for one in facts["data"]), models=Path(facts["models"]), results=Path(facts["results"])
        )
        home, environment = Path.cwd(), dict(os.environ)
        self._send(Kind.READY)
        while True:
            self._run(self._jobs.get(), folders, Path(facts["work"]), facts["threads"])
            self._tidy(home, environment)

    def _run(self, payload: bytes, folders: Folders, work: Path, threads: int) -> None:
        facts, body = frames.unpack(payload)
        lease = worker_service_pb2.Lease.FromString(body)
        job = lease.job
        name = attempt_name(lease)
        workdir = portable.private_folder(work / name)
        teller = PipeTeller(self._send)
        ctx = Context(
            job_id=job.job_id,
            attempt=lease.attempt,
            workdir=workdir,
            folders=folders,
            worker_id=facts["worker_id"],
            tenant=job.tenant,
            user=job.user,
            threads=threads,
            lease_token=lease.lease_token,
            teller=teller,
            stop=self._stop,
        )
        kind, message = Kind.SUCCEEDED, b""
        try:
            ctx.raise_if_cancelled()
            result = registry.run(job, ctx, self._on_cancel.append)
            message = results.small_enough(result, folders.results, facts["worker_id"], name).SerializeToString()
        except Cancelled:
            kind = Kind.STOPPED
        except BaseException as error:  # noqa: BLE001
            kind, message = Kind.FAILED, failure(error).SerializeToString()
        finally:
            shutil.rmtree(workdir, ignore_errors=True)
        teller.close()
        self._end_output(facts["marker"].encode())
        self._send(kind, message)

    def _end_output(self, marker: bytes) -> None:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
        portable.flush_c_output()
        for descriptor in self._outputs:
            os.write(descriptor, marker)

    def _tidy(self, home: Path, environment: dict[str, str]) -> None:
        """Undoes what a job can have left behind, and says whether this process may run another."""
        self._on_cancel.clear()
        for number, descriptor in enumerate(self._outputs, start=1):
            os.dup2(descriptor, number)
        wire_output()
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        with contextlib.suppress(OSError):
            os.chdir(home)
        threads = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
        clean = not threads and not portable.has_children()
        self._send(Kind.IDLE, frames.pack({"clean": clean}))

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for kind, payload in frames.read(self._commands):
                if kind is Kind.SETUP:
                    self._setup.put(payload)
                elif kind is Kind.START:
                    self._jobs.put(payload)
                elif kind is Kind.CANCEL:
                    self._cancel()
        # The worker is gone, or wants this process gone.
        portable.kill_own_group()

    def _cancel(self) -> None:
        self._stop.set()
        for hook in list(self._on_cancel):
            with contextlib.suppress(RuntimeError):
                hook()


def failure(error: BaseException) -> job_pb2.Failure:
    """What a person is told of an exception. A class with `retryable = False` is not tried again."""
    invalid = isinstance(error, InvalidInput)
    described = traceback.TracebackException.from_exception(error)
    described.stack = traceback.StackSummary.from_list(
        [one for one in described.stack if one.filename not in OWN_FILES]
    )
    trace = results.clean("".join(described.format()))
    message = results.clean(_message(error))
    return job_pb2.Failure(
        cause=job_pb2.FAILURE_CAUSE_INVALID_INPUT if invalid else job_pb2.FAILURE_CAUSE_HANDLER,
        type=type(error).__qualname__,
        message=message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + " [...]",
        traceback="" if invalid else trace if len(trace) <= MAX_TRACEBACK else "[...] " + trace[-MAX_TRACEBACK:],
        retryable=not invalid and getattr(error, "retryable", True) is not False,
    )


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"The handler called sys.exit({error.code!r}). Return, or raise an exception."
    try:
        return str(error) or type(error).__qualname__
    except Exception:  # noqa: BLE001
        return type(error).__qualname__


def wire_output() -> None:
    """Points Python's standard streams at descriptors 1 and 2, line by line, whatever a job did to them."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = streams.get(name)
        # The same object as long as it lives: loggers that were set up at import hold on to it.
        if stream is None or stream.closed:
            raw = io.FileIO(number, "wb", closefd=False)
            stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="backslashreplace", line_buffering=True)
            streams[name] = stream
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


streams: dict[str, io.TextIOWrapper] = {}


def _sender(descriptor: int) -> Callable[..., None]:
    lock = threading.Lock()

    def send(kind: Kind, payload: bytes = b"") -> None:
        with lock:
            frames.write(descriptor, kind, payload)

    return send


def main(arguments: list[str]) -> None:
    """`python -m towpath_worker.child PIPE PARENT`: started by the worker only."""
    reports = portable.open_inherited(arguments[0])
    portable.bind_life_to_parent(int(arguments[1]))
    commands = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    wire_output()
    faulthandler.enable(os.dup(2))
    Child(commands, reports).serve()


if __name__ == "__main__":
    main(sys.argv[1:])

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
from collections.abc import Callable
from pathlib import Path

from towpath.v1 import worker_service_pb2
from towpath_worker import frames, limits, orphans, portable, registry, results
from towpath_worker.errors import Cancelled
from towpath_worker.failures import failure
from towpath_worker.frames import Kind
from towpath_worker.handler import Context
from towpath_worker.leftovers import Leftovers
from towpath_worker.limits import Limits
from towpath_worker.paths import Folders
from towpath_worker.plan import attempt_name
from towpath_worker.teller import PipeTeller


class Child:
    """One child process, from its start to the end of its last job."""

    def __init__(self, commands: int, reports: int) -> None:
        self._commands = commands
        self._send_all = _sender(reports)
        self._jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._setup: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._outputs = [os.dup(1), os.dup(2)]
        self._stop = threading.Event()
        self._broke_limit = False
        self._on_cancel: list[Callable[[], object]] = []

    def _send(self, kind: Kind, payload: bytes = b"") -> None:
        self._send_all(frames.encode(kind, payload))

    def serve(self) -> None:
        """Runs jobs until the worker closes the pipe."""
        threading.Thread(target=self._listen, name="towpath-commands", daemon=True).start()
        facts, _ = frames.unpack(self._setup.get())
        sys.path[:] = [*facts["path"], *(one for one in sys.path if one not in facts["path"])]
        try:
            served = registry.load(facts["modules"], facts["allow"])
            self._send(Kind.TYPES, frames.pack({"types": served, "inline": registry.inline(served)}))
            registry.preload(served)
        except registry.Unservable as error:
            self._send(Kind.TYPES, frames.pack({"error": str(error)}))
            return
        folders = Folders.of(facts["folders"])
        bounds = Limits.of(facts["limits"])
        limits.confine(bounds)
        leftovers = Leftovers(self._outputs, bounds, facts["scratch"])
        self._send(Kind.READY)
        work = Path(facts["work"])
        while True:
            payload = self._jobs.get()
            before = _cpu_time()
            limits.begin_cpu_time(bounds, before)
            kind, message = self._run(payload, folders, work, facts["threads"], bounds)
            self._on_cancel.clear()
            clean = leftovers.clear() and not self._broke_limit
            wire_output()
            idle = frames.IDLE.pack(clean, _cpu_time() - before)
            # In one piece: the worker is woken once, and can give the next job at once.
            self._send_all(frames.encode(kind, message), frames.encode(Kind.IDLE, idle))

    def _run(self, payload: bytes, folders: Folders, work: Path, threads: int, bounds: Limits) -> tuple[Kind, bytes]:
        facts, body = frames.unpack(payload)
        lease = worker_service_pb2.Lease.FromString(body)
        job = lease.job
        name = attempt_name(lease)
        folders_made: list[Path] = []
        teller = PipeTeller(self._send)
        ctx = Context(
            job_id=job.job_id,
            attempt=lease.attempt,
            workdir=lambda: _make_folder(work / name, folders_made),
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
            kind, message = Kind.FAILED, self._failure(error, bounds)
        finally:
            for folder in folders_made:
                shutil.rmtree(folder, ignore_errors=True)
        teller.close()
        self._end_output(facts["marker"].encode())
        return kind, message

    def _failure(self, error: BaseException, bounds: Limits) -> bytes:
        described = failure(error)
        if (limit := limits.behind(error, bounds)) is not None:
            self._broke_limit = True
            described.MergeFrom(limits.failure(limit, bounds))
            described.retryable = False
        return described.SerializeToString()

    def _end_output(self, marker: bytes) -> None:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
        portable.flush_c_output()
        for descriptor in self._outputs:
            os.write(descriptor, marker)

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


def _make_folder(path: Path, made: list[Path]) -> Path:
    made.append(path)
    return portable.private_folder(path)


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


def _cpu_time() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _sender(descriptor: int) -> Callable[..., None]:
    lock = threading.Lock()

    def send(*encoded: bytes) -> None:
        with lock:
            frames.write(descriptor, *encoded)

    return send


def main(arguments: list[str]) -> None:
    """`python -m towpath_worker.child PIPE PARENT`: started by the worker only."""
    reports = portable.open_inherited(arguments[0])
    portable.bind_life_to_parent(int(arguments[1]))
    orphans.volunteer()
    commands = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    wire_output()
    faulthandler.enable(os.dup(2))
    Child(commands, reports).serve()


if __name__ == "__main__":
    main(sys.argv[1:])

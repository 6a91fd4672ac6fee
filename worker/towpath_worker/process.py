"""The worker's end of one child process: start it, give it a job, hear what it says, kill it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath_worker import frames, leftovers, orphans, portable
from towpath_worker.frames import Kind
from towpath_worker.pipes import Reader, Tail, Writer, owned
from towpath_worker.plan import Plan, environment

Stream = job_service_pb2.LogStream
STREAMS = (job_service_pb2.LOG_STREAM_STDOUT, job_service_pb2.LOG_STREAM_STDERR)
OUTPUT_PATIENCE = 2.0


class StartFailed(Exception):
    """A child process did not get as far as running jobs. The message says why."""


class Died(Exception):
    """A child process ended in the middle of a job."""

    def __init__(self, code: int, tail: str) -> None:
        self.code = code
        self.type, message = portable.describe_exit(code)
        self.tail = tail
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Served:
    """The job types that the handlers serve, and those of them that run in the worker's own process."""

    types: tuple[str, ...]
    inline: tuple[str, ...]

    @property
    def all_inline(self) -> bool:
        """Whether no child process is needed."""
        return self.types == self.inline


class Listener(Protocol):
    """Hears what a job says. All calls come in the worker's event loop."""

    def progress(self, progress: job_pb2.Progress) -> None: ...

    def output(self, stream: Stream.ValueType, data: bytes) -> None: ...


class ChildProcess:
    """One child process. All methods are for the event loop that it was started in."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.tasks = 0
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._answers: dict[Kind, asyncio.Future[tuple[Kind, bytes]]] = {}
        self._listener: Listener | None = None
        self._marker = b""
        self._pending = dict.fromkeys(STREAMS, b"")
        self._ended: dict[int, asyncio.Event] = {stream: asyncio.Event() for stream in STREAMS}
        self._reports_ended = asyncio.Event()
        self._feed = frames.Feed()
        self._tail = Tail()
        self._killing = False
        self._broken_off = False
        self._breaking_off: asyncio.Task[None] | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._commands: Writer | None = None
        self._readers: list[Reader] = []
        #: Where its jobs put temporary files.
        self.scratch: Path | None = None

    @property
    def pid(self) -> int:
        """Its number; for one that was started."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it can be given a job."""
        return not self.exited.done() and not self._killing

    async def start(self, plan: Plan, spawner: Executor) -> Served:
        """Starts it and waits until it can run jobs; what it serves. StartFailed with the reason."""
        types, ready = self._expect(Kind.TYPES), self._expect(Kind.READY)
        # Linux ends a child when the thread that started it ends: hence a thread that lives as long as the worker.
        pipe = portable.InheritablePipe()
        try:
            self._popen = await self._loop.run_in_executor(spawner, self._spawn, plan, pipe)
        except OSError as error:
            os.close(pipe.reader)
            self.exited.set_result(-1)
            raise StartFailed(f"A child process cannot be started: {error}") from None
        self._wire(self._popen, pipe.reader)
        if self._killing:
            await self.kill()
        try:
            scratch = str(self.scratch) if self.scratch is not None else None
            await self._send(Kind.SETUP, frames.pack({**plan.facts(), "scratch": scratch}))
            facts, _ = frames.unpack((await types)[1])
            if reason := facts.get("error"):
                raise StartFailed(reason)
            await ready
        except (Died, OSError):
            raise StartFailed(f"A child process ended while it loaded its handlers:\n{self._tail.text()}") from None
        return Served(tuple(facts["types"]), tuple(facts["inline"]))

    async def perform(self, lease: worker_service_pb2.Lease, worker_id: str, listener: Listener) -> tuple[Kind, bytes]:
        """Runs one job; the kind of its outcome and its message. Died where the process did."""
        self.tasks += 1
        self._marker = b"\x00\x1etowpath " + secrets.token_hex(8).encode() + b"\x1e\n"
        self._tail = Tail()
        self._listener = listener
        for event in self._ended.values():
            event.clear()
        outcome = self._expect(*frames.OUTCOMES)
        self._expect(Kind.IDLE)
        try:
            with contextlib.suppress(OSError):
                facts = {"worker_id": worker_id, "marker": self._marker.decode()}
                await self._send(Kind.START, frames.pack(facts, lease.SerializeToString()))
            return await outcome
        finally:
            await self._outputs_ended()
            self._listener = None

    @property
    def reusable_now(self) -> bool:
        """After a job: whether it has said already that nothing of it is left in the process."""
        return (said := self._idle_said()) is not None and self._is_clean(said)

    @property
    def cpu_seconds(self) -> float | None:
        """After a job: the CPU time that it took, if that was said already."""
        said = self._idle_said()
        return None if said is None else float(frames.IDLE.unpack(said)[1])

    def _idle_said(self) -> bytes | None:
        answer = self._answers[Kind.IDLE]
        return answer.result()[1] if answer.done() and answer.exception() is None else None

    async def reusable(self) -> bool:
        """After a job: whether nothing of it is left in the process."""
        try:
            async with asyncio.timeout(OUTPUT_PATIENCE):
                return self._is_clean((await self._answers[Kind.IDLE])[1])
        except (Died, TimeoutError):
            return False

    def _is_clean(self, answer: bytes) -> bool:
        return frames.IDLE.unpack(answer)[0] and self.alive and all(event.is_set() for event in self._ended.values())

    async def ask_to_stop(self) -> None:
        """Tells the job that it was cancelled."""
        with contextlib.suppress(OSError):
            await self._send(Kind.CANCEL)

    async def kill(self) -> None:
        """Ends the process and everything that it started, and waits until it is gone."""
        self._killing = True
        if self._popen is not None and self._popen.returncode is None:
            await asyncio.to_thread(portable.kill_tree, self._popen.pid, self.mark)
        await asyncio.shield(self.exited)

    def close(self) -> None:
        """Hears no more of it, though something that it started may still hold its pipes."""
        for reader in self._readers:
            reader.close()
        if self.scratch is not None:
            self._loop.run_in_executor(None, functools.partial(shutil.rmtree, self.scratch, ignore_errors=True))

    def _spawn(self, plan: Plan, pipe: portable.InheritablePipe) -> subprocess.Popen[bytes]:
        try:
            self.scratch = leftovers.make_scratch(plan.mark)
            with orphans.birth() as known:
                popen = subprocess.Popen(
                    [sys.executable, "-m", "towpath_worker.child", pipe.argument(), str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=environment(plan, self.mark, self.scratch),
                    **pipe.popen_options(),
                )
                known(popen.pid)
        finally:
            os.close(pipe.writer)
        threading.Thread(target=self._wait, args=(popen,), name="towpath-wait", daemon=True).start()
        return popen

    def _wire(self, popen: subprocess.Popen[bytes], reports: int) -> None:
        self._commands = Writer(owned(popen.stdin))
        self._readers.append(Reader(reports, self._on_reports))
        for stream, source in zip(STREAMS, (popen.stdout, popen.stderr), strict=True):
            self._readers.append(Reader(owned(source), functools.partial(self._on_output, stream)))
        if self.exited.done():
            self._commands.close()

    def _wait(self, popen: subprocess.Popen[bytes]) -> None:
        code = popen.wait()
        if not self._killing:
            portable.kill_leftovers(popen.pid, self.mark)
        orphans.buried(popen.pid)
        # The event loop may be closed: then nobody listens any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_exit, code)

    def _on_reports(self, data: bytes) -> None:
        if not data:
            self._reports_ended.set()
            return
        try:
            for kind, payload in self._feed.take(data):
                self._on_report(kind, payload)
        except ValueError:
            # Somebody else wrote into the pipe: no word of this child can be trusted any more.
            assert self._popen is not None
            self._popen.kill()

    def _on_report(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.PROGRESS and self._listener is not None:
            self._listener.progress(job_pb2.Progress.FromString(payload))
        elif kind is Kind.LOG and self._listener is not None:
            self._listener.output(job_service_pb2.LOG_STREAM_LOG, payload)
        elif (answer := self._answers.get(kind)) is not None and not answer.done():
            answer.set_result((kind, payload))

    def _on_output(self, stream: Stream.ValueType, data: bytes) -> None:
        pending = self._pending[stream] + data
        before, found, after = pending.partition(self._marker) if self._marker else (pending, b"", b"")
        # The marker may come in two pieces.
        split = len(before) if found or not data else before.rfind(b"\x00", max(0, len(before) - len(self._marker)))
        ready, rest = (before, after) if found or split < 0 else (before[:split], before[split:])
        self._pending[stream] = rest
        if ready:
            self._tail.add(ready)
            if self._listener is not None:
                self._listener.output(stream, ready)
        if found or not data:
            self._ended[stream].set()

    def _on_exit(self, code: int) -> None:
        if self._commands is not None:
            self._commands.close()
        if not self.exited.done():
            self.exited.set_result(code)
        self._breaking_off = self._loop.create_task(self._break_off(code))

    async def _break_off(self, code: int) -> None:
        # What it said before its end counts.
        await self._outputs_ended()
        self._broken_off = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Died(code, self._tail.text()))
                # Looked at, as perhaps nobody waits for it.
                answer.exception()

    def _expect(self, *kinds: Kind) -> asyncio.Future[tuple[Kind, bytes]]:
        answer: asyncio.Future[tuple[Kind, bytes]] = self._loop.create_future()
        self._answers |= dict.fromkeys(kinds, answer)
        if self._broken_off:
            answer.set_exception(Died(self.exited.result(), self._tail.text()))
            answer.exception()
        return answer

    async def _outputs_ended(self) -> None:
        waited = (*self._ended.values(), *([self._reports_ended] if self.exited.done() else []))
        if all(event.is_set() for event in waited):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OUTPUT_PATIENCE):
                for event in waited:
                    await event.wait()

    async def _send(self, kind: Kind, payload: bytes = b"") -> None:
        if self._commands is None:
            raise BrokenPipeError
        await self._commands.write(frames.encode(kind, payload))

"""The worker's end of one child process: start it, give it a job, hear what it says, kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import IO, Any, Protocol

from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath_worker import frames, portable
from towpath_worker.frames import Kind
from towpath_worker.plan import Plan, environment

Stream = job_service_pb2.LogStream
STREAMS = (job_service_pb2.LOG_STREAM_STDOUT, job_service_pb2.LOG_STREAM_STDERR)
TAIL_BYTES = 4000
# What Python adds to the trace of a crash, after the lines that matter: 8 KB and more where pandas is loaded.
EXTENSIONS = b"\nExtension modules: "
EXTENSIONS_BYTES = 60_000
OUTPUT_PATIENCE = 2.0


class StartFailed(Exception):
    """A child process did not get as far as running jobs. The message says why."""


class Died(Exception):
    """A child process ended in the middle of a job."""

    def __init__(self, code: int, tail: str) -> None:
        self.type, message = portable.describe_exit(code)
        self.tail = tail
        super().__init__(message)


class Listener(Protocol):
    """Hears what a job says. All calls come in the worker's event loop."""

    def progress(self, progress: job_pb2.Progress) -> None: ...

    def output(self, stream: Stream.ValueType, data: bytes) -> None: ...


class ChildProcess:
    """One child process. All methods are for the event loop that it was started in."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.tasks = 0
        self.exited: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._answers: dict[Kind, asyncio.Future[Any]] = {}
        self._listener: Listener | None = None
        self._marker = b""
        self._pending = dict.fromkeys(STREAMS, b"")
        self._ended: dict[int, asyncio.Event] = {stream: asyncio.Event() for stream in STREAMS}
        self._reports_ended = asyncio.Event()
        self._tail = b""
        self._killing = False
        self._popen: subprocess.Popen[bytes] | None = None
        self._sending = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it can be given a job."""
        return not self.exited.done() and not self._killing

    async def start(self, plan: Plan, spawner: Executor) -> list[str]:
        """Starts it and waits until it can run jobs; the job types that it serves. StartFailed with the reason."""
        types, ready = self._expect(Kind.TYPES), self._expect(Kind.READY)
        # Linux ends a child when the thread that started it ends: hence a thread that lives as long as the worker.
        try:
            self._popen = await self._loop.run_in_executor(spawner, self._spawn, plan)
        except OSError as error:
            self.exited.set_result(-1)
            raise StartFailed(f"A child process cannot be started: {error}") from None
        if self._killing:
            await self.kill()
        try:
            await self._send(Kind.SETUP, frames.pack(plan.facts()))
            facts, _ = frames.unpack(await self._answer(types))
            if reason := facts.get("error"):
                raise StartFailed(reason)
            await self._answer(ready)
        except (Died, OSError):
            raise StartFailed(f"A child process ended while it loaded its handlers:\n{self._tail_text()}") from None
        served: list[str] = facts["types"]
        return served

    async def perform(self, lease: worker_service_pb2.Lease, worker_id: str, listener: Listener) -> tuple[Kind, bytes]:
        """Runs one job; the kind of its outcome and its message. Died where the process did."""
        self.tasks += 1
        self._marker = b"\x00\x1etowpath " + secrets.token_hex(8).encode() + b"\x1e\n"
        self._tail = b""
        self._listener = listener
        for event in self._ended.values():
            event.clear()
        outcome = asyncio.ensure_future(self._first_of(Kind.SUCCEEDED, Kind.FAILED, Kind.STOPPED))
        self._expect(Kind.IDLE)
        try:
            with contextlib.suppress(OSError):
                facts = {"worker_id": worker_id, "marker": self._marker.decode()}
                await self._send(Kind.START, frames.pack(facts, lease.SerializeToString()))
            return await outcome
        finally:
            outcome.cancel()
            await self._outputs_ended()
            self._listener = None

    async def reusable(self) -> bool:
        """After a job: whether nothing of it is left in the process."""
        try:
            async with asyncio.timeout(OUTPUT_PATIENCE):
                facts, _ = frames.unpack(await self._answer(self._answers[Kind.IDLE]))
        except (Died, TimeoutError):
            return False
        return bool(facts["clean"]) and all(event.is_set() for event in self._ended.values())

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

    def _spawn(self, plan: Plan) -> subprocess.Popen[bytes]:
        pipe = portable.InheritablePipe()
        try:
            popen = subprocess.Popen(
                [sys.executable, "-m", "towpath_worker.child", pipe.argument(), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment(plan, self.mark),
                **pipe.popen_options(),
            )
        finally:
            os.close(pipe.writer)
        self._thread(self._read_reports, popen, pipe.reader)
        for stream, source in zip(STREAMS, (popen.stdout, popen.stderr), strict=True):
            assert source is not None
            self._thread(self._read_output, stream, source)
        self._thread(self._wait, popen)
        return popen

    def _thread(self, target: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, name=f"towpath-{target.__name__}", daemon=True).start()

    def _read_reports(self, popen: subprocess.Popen[bytes], descriptor: int) -> None:
        try:
            for kind, payload in frames.read(descriptor):
                if not self._post(self._on_report, kind, payload):
                    break
        except (OSError, ValueError):
            # Somebody else wrote into the pipe: no word of this child can be trusted any more.
            popen.kill()
        finally:
            os.close(descriptor)
            self._post(self._reports_ended.set)

    def _read_output(self, stream: Stream.ValueType, source: IO[bytes]) -> None:
        # The job waits while eight pieces wait for the event loop: memory stays bounded.
        gate = threading.Semaphore(8)
        with source:
            while True:
                gate.acquire()
                data = os.read(source.fileno(), 64 * 1024)
                if not self._post(self._on_output, stream, data, gate) or not data:
                    return

    def _wait(self, popen: subprocess.Popen[bytes]) -> None:
        code = popen.wait()
        if not self._killing:
            portable.kill_leftovers(popen.pid, self.mark)
        assert popen.stdin is not None
        with self._sending, contextlib.suppress(OSError):
            popen.stdin.close()
        self._post(self._on_exit, code)

    def _post(self, callback: Callable[..., None], *arguments: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The event loop is closed: nobody listens any more.
            return False
        return True

    def _on_report(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.PROGRESS and self._listener is not None:
            self._listener.progress(job_pb2.Progress.FromString(payload))
        elif kind is Kind.LOG and self._listener is not None:
            self._listener.output(job_service_pb2.LOG_STREAM_LOG, payload)
        elif (answer := self._answers.get(kind)) is not None and not answer.done():
            answer.set_result(payload)

    def _on_output(self, stream: Stream.ValueType, data: bytes, gate: threading.Semaphore) -> None:
        gate.release()
        pending = self._pending[stream] + data
        before, found, after = pending.partition(self._marker) if self._marker else (pending, b"", b"")
        # The marker may come in two pieces.
        split = len(before) if found or not data else before.rfind(b"\x00", max(0, len(before) - len(self._marker)))
        ready, rest = (before, after) if found or split < 0 else (before[:split], before[split:])
        self._pending[stream] = rest
        if ready:
            self._tail = (self._tail + ready)[-EXTENSIONS_BYTES - TAIL_BYTES :]
            if self._listener is not None:
                self._listener.output(stream, ready)
        if found or not data:
            self._ended[stream].set()

    def _on_exit(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)

    def _expect(self, kind: Kind) -> asyncio.Future[Any]:
        self._answers[kind] = self._loop.create_future()
        return self._answers[kind]

    async def _first_of(self, *kinds: Kind) -> tuple[Kind, bytes]:
        answers = {self._expect(kind): kind for kind in kinds}
        await asyncio.wait([*answers, self.exited], return_when=asyncio.FIRST_COMPLETED)
        if self.exited.done():
            # What it said before its end counts.
            await self._outputs_ended()
        for answer, kind in answers.items():
            if answer.done():
                return kind, answer.result()
        raise Died(self.exited.result(), self._tail_text())

    async def _answer(self, answer: asyncio.Future[Any]) -> bytes:
        await asyncio.wait([answer, self.exited], return_when=asyncio.FIRST_COMPLETED)
        if self.exited.done():
            await self._outputs_ended()
        if not answer.done():
            raise Died(self.exited.result(), self._tail_text())
        payload: bytes = answer.result()
        return payload

    async def _outputs_ended(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OUTPUT_PATIENCE):
                for event in (*self._ended.values(), *([self._reports_ended] if self.exited.done() else [])):
                    await event.wait()

    async def _send(self, kind: Kind, payload: bytes = b"") -> None:
        await asyncio.to_thread(self._write, kind, payload)

    def _write(self, kind: Kind, payload: bytes) -> None:
        with self._sending:
            assert self._popen is not None
            assert self._popen.stdin is not None
            if self._popen.stdin.closed:
                raise BrokenPipeError
            frames.write(self._popen.stdin.fileno(), kind, payload)

    def _tail_text(self) -> str:
        tail, found, extensions = self._tail.rpartition(EXTENSIONS)
        if not found or b"\n" in extensions.strip():
            tail = self._tail
        return tail[-TAIL_BYTES:].decode("utf-8", "replace").strip()

"""Where time goes: each stage of the scheduler with its calls, items, CPU time and wall time.

Wanted with `--profile-stages`. Then, and only then, functions are put in the place of those that they measure, found by
their names; what is not found any more is said in the table. A stage inside another counts in both.
"""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

# Each of ours that is measured: stage, module, name in it. Where a module imported a function, its own name counts.
SEAMS: Sequence[tuple[str, str, str]] = (
    ("rules", "towpath_server.rpc.rules", "check"),
    ("convert in: jobs", "towpath_server.rpc.jobs", "new_job"),
    ("convert in: reports", "towpath_server.rpc.reporting", "split"),
    ("convert out: job", "towpath_server.rpc.jobs", "job_to_proto"),
    ("convert out: batch", "towpath_server.rpc.jobs", "created_to_bytes"),
    ("convert out: leases", "towpath_server.rpc.workers", "leases_to_bytes"),
    ("commit: all of it", "towpath_server.store.committer", "Committer._commit"),
    ("commit: answer", "towpath_server.store.committer", "Committer._answer"),
)
# What the figures for one job are divided by.
JOBS = "convert in: jobs"


@dataclass(slots=True)
class Stage:
    """One stage: how often, for how many items, and how many seconds of CPU and by the clock."""

    calls: int = 0
    items: int = 0
    cpu: float = 0.0
    wall: float = 0.0

    def add(self, items: int, cpu: float, wall: float) -> None:
        """One call more."""
        self.calls += 1
        self.items += items
        self.cpu += cpu
        self.wall += wall


class Stages:
    """The stages of this process. Threads add without a lock: each stage belongs to one of them."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.missing: list[str] = []
        self._undo: list[Callable[[], None]] = []

    def stage(self, name: str) -> Stage:
        """The stage with this name."""
        return self.stages.setdefault(name, Stage())

    @contextmanager
    def measured(self, name: str, items: int = 1) -> Iterator[None]:
        """A block of a stage."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.stage(name).add(items, time.thread_time() - cpu, time.perf_counter() - wall)

    def around(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, measured. An only argument that is a list counts as so many items."""

        @functools.wraps(work)
        def measured(*values: Any, **named: Any) -> Any:
            last = values[-1] if values else None
            with self.measured(name, len(last) if isinstance(last, list | tuple) else 1):
                return work(*values, **named)

        return measured

    def install(self) -> None:
        """Measure from now on."""
        for name, module, path in SEAMS:
            self._seam(name, module, path)
        self._boundary()
        self._committer()
        self._connection()

    def uninstall(self) -> None:
        """Measure no more."""
        while self._undo:
            self._undo.pop()()

    def table(self) -> str:
        """All stages, the dearest first."""
        jobs = max(self.stage(JOBS).items, 1)
        lines = [
            f"{'stage':34}{'calls':>9}{'items':>10}{'CPU ms':>10}{'wall ms':>10}{'us an item':>12}{'us a job':>10}"
        ]
        for name, one in sorted(self.stages.items(), key=lambda pair: -pair[1].cpu):
            if one.calls:
                lines.append(
                    f"{name:34}{one.calls:9,}{one.items:10,}{one.cpu * 1e3:10,.0f}{one.wall * 1e3:10,.0f}"
                    f"{one.cpu / max(one.items, 1) * 1e6:12.1f}{one.cpu / jobs * 1e6:10.1f}"
                )
        lines.append(f"{jobs:,} jobs; the process used {time.process_time() * 1e6 / jobs:,.0f} us of CPU for each")
        return "\n".join(lines + [f"not found: {path}" for path in self.missing])

    def _put(self, owner: Any, name: str, new: Any) -> None:
        old = getattr(owner, name)
        self._undo.append(lambda: setattr(owner, name, old))
        setattr(owner, name, new)

    def _seam(self, name: str, module: str, path: str) -> None:
        owner: Any = importlib.import_module(module)
        *classes, last = path.split(".")
        for one in classes:
            owner = getattr(owner, one, None)
        if getattr(owner, last, None) is None:
            self.missing.append(f"{module}.{path}")
            return
        self._put(owner, last, self.around(name, getattr(owner, last)))

    def _boundary(self) -> None:
        from towpath_server.rpc.boundary import Boundary

        wrap = Boundary._wrap

        def measured(boundary: Boundary, method: str, handler: Any) -> Any:
            decode, encode = handler.request_deserializer, handler.response_serializer
            return wrap(
                boundary,
                method,
                handler._replace(
                    request_deserializer=decode and self.around("decode", decode),
                    response_serializer=encode and self.around("encode", encode),
                ),
            )

        self._put(Boundary, "_wrap", measured)

    def _committer(self) -> None:
        from towpath_server.store.committer import Committer, Verb

        submit = Committer.submit
        verbs: dict[Verb[Any, Any], Verb[Any, Any]] = {}

        async def measured(committer: Committer, verb: Verb[Any, Any], item: Any) -> Any:
            if verb not in verbs:
                verbs[verb] = replace(verb, run=self.around(f"transaction: {verb.name}", verb.run))
            began = time.perf_counter()
            try:
                return await submit(committer, verbs[verb], item)
            finally:
                self.stage("commit: from submit to answer").add(1, 0.0, time.perf_counter() - began)

        self._put(Committer, "submit", measured)

    def _connection(self) -> None:
        from towpath_server.store.sqlite.connection import Connection

        for name in ("execute", "rows", "value"):
            self._put(Connection, name, self._statement(getattr(Connection, name)))

    def _statement(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def measured(connection: Any, sql: str, *parameters: Any) -> Any:
            thread = threading.current_thread().name.removeprefix("towpath-")
            with self.measured("commit: to disk" if sql == "COMMIT" else f"SQL: {thread}"):
                return run(connection, sql, *parameters)

        return measured

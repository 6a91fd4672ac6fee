"""How a built-in handler tells what it does: phases with their durations, steps with an ETA, not too often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath_worker.handler import Context

INTERVAL = 0.1


class Phases:
    """The phases of one job. Each takes its share of the percentage."""

    def __init__(self, ctx: Context, ends: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        """`ends`: for each phase, in order, the percentage at its end."""
        self._ctx, self._ends, self._clock = ctx, ends, clock
        self._start, self._end, self._phase = 0.0, 0.0, ""
        self._began, self._told = clock(), -INTERVAL
        #: When the first step of the phase was done, and which share it was: what came before it is no measure.
        self._first: tuple[float, float] | None = None
        #: Seconds by phase.
        self.durations: dict[str, float] = {}

    @contextmanager
    def run(self, phase: str, message: str) -> Iterator[None]:
        """One phase: says that it begins, measures how long it takes. Raises where the job was cancelled."""
        self._ctx.raise_if_cancelled()
        self._phase, self._start, self._end = phase, self._end, self._ends[phase]
        self._began, self._first = self._clock(), None
        self._ctx.progress(self._start, message, phase=phase)
        try:
            yield
        finally:
            self.durations[phase] = self._clock() - self._began
        self._ctx.raise_if_cancelled()

    def share(self, done: float) -> None:
        """How much of the phase is done, 0 to 1. Raises where the job was cancelled."""
        self._ctx.raise_if_cancelled()
        if self._due(done >= 1):
            self._ctx.progress(self._percent(done), phase=self._phase, eta=self._eta(done))

    def step(self, unit: str, done: int, total: int, measure: Callable[[], Mapping[str, float]]) -> None:
        """One of `total` steps is done; the metrics are only computed when it is time to tell them."""
        self._ctx.raise_if_cancelled()
        if self._first is None:
            self._first = (self._clock(), done / total)
        if not self._due(done >= total):
            return
        self._ctx.progress(
            self._percent(done / total),
            f"{unit} {done} of {total}",
            phase=self._phase,
            metrics=dict(measure()),
            eta=self._eta(done / total),
        )

    def _due(self, last: bool) -> bool:
        now = self._clock()
        if not last and now - self._told < INTERVAL:
            return False
        self._told = now
        return True

    def _percent(self, done: float) -> float:
        return self._start + (self._end - self._start) * min(1.0, max(0.0, done))

    def _eta(self, done: float) -> float | None:
        began, before = self._first or (self._began, 0.0)
        return (self._clock() - began) / (done - before) * (1 - done) if done > before else None

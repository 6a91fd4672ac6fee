"""Between callers and the scheduler: delays, lost requests, lost answers, and streams that break."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Lost(Exception):
    """No answer came: the request was lost, or the answer was, or the scheduler is not there."""


@dataclass(slots=True)
class Weather:
    """How bad the network is."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    broken_stream: float = 0.0
    slow: float = 0.0


class Network:
    """Draws delays and losses."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self._rng = rng
        self.weather = weather

    def delay(self) -> float:
        """Seconds that a message is on its way."""
        if self._rng.random() < self.weather.slow:
            return self._rng.uniform(0.1, 2.0)
        return self._rng.uniform(0.001, 0.03)

    def loses_request(self) -> bool:
        """Whether a request never arrives."""
        return self._rng.random() < self.weather.lost_request

    def loses_answer(self) -> bool:
        """Whether an answer never arrives."""
        return self._rng.random() < self.weather.lost_answer

    def breaks(self) -> bool:
        """Whether a stream breaks now."""
        return self._rng.random() < self.weather.broken_stream

    def patience(self) -> float:
        """Seconds after which a caller without an answer notices."""
        return self._rng.uniform(0.1, 1.5)


class Pipe:
    """Messages one way: each later than the one before, and none once it is closed."""

    def __init__(self, delay: Callable[[], float], deliver: Callable[[Any], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._delay = delay
        self._deliver = deliver
        self._under_way: deque[Any] = deque()
        self._last = 0.0
        self.closed = False

    def put(self, message: object) -> None:
        """Send."""
        if not self.closed:
            self._under_way.append(message)
            self._last = max(self._last, self._loop.time() + self._delay())
            self._loop.call_at(self._last, self._arrive, context=self._context)

    def _arrive(self) -> None:
        if not self.closed:
            self._deliver(self._under_way.popleft())

    def slow_down(self, delay: Callable[[], float]) -> None:
        """From now on it takes longer."""
        self._delay = delay

    def close(self) -> None:
        """What is under way is lost."""
        self.closed = True

"""Several replicas of one scheduler: which of them a client talks to, and when it turns to the next."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc

from towpath import statuses
from towpath.channel import ALONE, AMONG_OTHERS, Pace

# A call that had so many seconds and got no answer: the scheduler hangs.
SILENCE = 10.0
# Seconds for which a scheduler that cannot reach its store is given time: most often none of them can.
STORELESS = 10.0
# Neither says that somebody is there.
WITHOUT_ANSWER = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True, slots=True)
class Turn:
    """A replica, for as long as it is the one; no two turns are the same."""

    number: int
    address: str


class Turns(Protocol):
    """Who decides where the next call goes."""

    turn: Turn

    @property
    def pace(self) -> Pace:
        """How soon to give it up."""

    def answered(self, turn: Turn) -> None:
        """It answers."""

    def failed(self, turn: Turn, error: Any, timeout: float | None) -> None:
        """A call of this turn failed."""


class Renewal:
    """One address alone: a new turn, and so a new channel, where a connection is lost and `is_stale`.

    Channels have one each. Safe among threads.
    """

    def __init__(self, address: str, is_stale: Callable[[], bool]) -> None:
        self.turn = Turn(0, address)
        self._is_stale = is_stale
        self._lock = threading.Lock()

    @property
    def pace(self) -> Pace:
        """There is no other to turn to."""
        return ALONE

    def answered(self, turn: Turn) -> None:
        """It answers."""

    def failed(self, turn: Turn, error: Any, timeout: float | None) -> None:
        """A call of this turn failed."""
        # Without a reason it is grpc that speaks: nobody is there, or one does not know the other.
        if error.code() is not grpc.StatusCode.UNAVAILABLE or statuses.reason(error):
            return
        with self._lock:
            if turn is self.turn and self._is_stale():
                self.turn = Turn(turn.number + 1, turn.address)


class Replicas:
    """The addresses in an order of chance, and whose turn it is.

    Channels that share it stay at one replica together. Safe among threads.
    """

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        # Clients with the same list are to spread over it.
        self._order = random.sample(list(addresses), len(addresses))
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        # How many were left since one of them answered.
        self._failed = 0
        self.turn = Turn(0, self._order[0])

    @property
    def untried(self) -> bool:
        """Whether one failed, and another was not tried since."""
        return 0 < self._failed < len(self._order)

    @property
    def pace(self) -> Pace:
        """How soon to give up the present one: later, once all of them were given up soon."""
        if self._failed < len(self._order):
            return AMONG_OTHERS
        return replace(AMONG_OTHERS, connect=ALONE.connect)

    def answered(self, turn: Turn) -> None:
        """It answers."""
        if self._failed and turn is self.turn:
            self._failed = 0

    def failed(self, turn: Turn, error: Any, timeout: float | None) -> None:
        """A call of this turn failed; `timeout` is what it had, in seconds, None for a stream."""
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            left = timeout is not None and timeout >= SILENCE
        elif code is grpc.StatusCode.UNAVAILABLE:
            left = self._is_over(statuses.reason(error))
        else:
            left = False
        if left:
            self._leave(turn)
        elif code not in WITHOUT_ANSWER:
            self.answered(turn)

    def _is_over(self, reason: str) -> bool:
        if reason == statuses.STORE_UNAVAILABLE:
            return self._clock() - self._began >= STORELESS
        # Without a reason it is grpc that speaks: nobody is there.
        return reason in ("", statuses.DRAINING)

    def _leave(self, turn: Turn) -> None:
        with self._lock:
            # Many calls fail with their connection: one of them leaves.
            if turn is self.turn:
                number = turn.number + 1
                self._failed += 1
                self._began = self._clock()
                self.turn = Turn(number, self._order[number % len(self._order)])

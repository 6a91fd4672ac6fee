"""The time by the database's clock, between two looks at it."""

from __future__ import annotations

import time

import pytest

# It skips where there is no driver.
from support import postgres
from towpath_server.store.postgres.clock import DatabaseClock

SECOND = 1_000_000_000
THERE = 1_800_000_000_000_000
assert postgres


def looked(clock: DatabaseClock, ahead: int, doubt: int, sent: int) -> None:
    """It stood so many microseconds ahead of ours."""
    clock.set((sent + doubt // 2) // 1000 + ahead, sent, sent + doubt)


def ahead(clock: DatabaseClock) -> float:
    """How far it is ahead of ours (microseconds)."""
    return clock.now() - time.monotonic_ns() / 1000


def test_it_is_looked_at_first() -> None:
    with pytest.raises(RuntimeError):
        DatabaseClock().now()


def test_the_quicker_look_is_right_until_it_is_old() -> None:
    clock, sent = DatabaseClock(), time.monotonic_ns()
    looked(clock, THERE, SECOND, sent)
    looked(clock, THERE + 300_000, SECOND // 2, sent)
    looked(clock, THERE + 400_000, SECOND, sent + SECOND)
    assert THERE < ahead(clock) < THERE + 300_001
    looked(clock, THERE + 600_000, SECOND, sent + 60 * SECOND)
    assert THERE + 300_001 < ahead(clock) < THERE + 600_001


def test_a_look_that_contradicts_is_right() -> None:
    clock, sent = DatabaseClock(), time.monotonic_ns()
    looked(clock, THERE, 1000, sent)
    looked(clock, THERE + 3600_000_000, SECOND, sent + SECOND)
    assert ahead(clock) > THERE + 3599_000_000


def test_it_never_goes_backwards_and_never_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, here = DatabaseClock(), time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: here)
    looked(clock, THERE, 1000, here)
    before = clock.now()
    looked(clock, THERE - 10_000_000, 1000, here)
    assert clock.now() == before
    for _ in range(10):
        here += SECOND // 10
        clock.now()
    assert clock.now() == before + 500_000
    # By then the other one has caught up.
    here += 30 * SECOND
    assert ahead(clock) == pytest.approx(THERE - 10_000_000, abs=2)

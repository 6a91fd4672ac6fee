"""The checker of histories finds each kind of violation, and nothing in a history in which all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support.checker import Kind, violations
from support.history import Acknowledged, Asked, Followed, History, Ran, Refused, Steered, Stored, Told

DONE = Stored("job", "request", "SUCCEEDED", 5, 2, 1, 1, "run-2", ((1, "LOST"), (2, "SUCCEEDED")), 30)


def sound() -> History:
    """A job that was lost once and then succeeded, one that was cancelled, and one that was retried."""
    dead = Stored("dead", "r2", "CANCELLED", 3, 1, 0, 0, "", ((1, "CANCELLED"),), 20)
    again = Stored("again", "r3", "SUCCEEDED", 8, 2, 1, 0, "run-4", ((1, "FAILED"), (2, "SUCCEEDED")), 21)
    stored = [DONE, dead, again]
    return History(
        asked=[Asked("request", "body"), Asked("r2", "b2"), Asked("r3", "b3"), Asked("never arrived", "b")],
        acknowledged=[
            Acknowledged("request", "job"),
            Acknowledged("request", "job"),
            Acknowledged("r2", "dead"),
            Acknowledged("r3", "again"),
        ],
        told=[
            Told("ada", "job", "QUEUED", 1),
            Told("bob", "job", "SUCCEEDED", 5, "run-2"),
            Told("ada", "job", "SUCCEEDED", 5, "run-2"),
            Told("ada", "again", "FAILED", 4),
        ],
        followed=[
            Followed("fay", "job", 1, 12),
            Followed("fay", "dead", 3, 25),
            Followed("fay", "again", 8, 25),
            Followed("fay", "job", 5, 30),
        ],
        steered=[Steered("dead", "cancel", "CANCELLING", 2), Steered("again", "retry", "QUEUED", 5)],
        ran=[
            Ran("job", 1, "run-1", "body"),
            Ran("job", 2, "run-2", "body"),
            Ran("dead", 1, "run-3", "b2"),
            Ran("again", 2, "run-4", "b3"),
        ],
        listed=[replace(one, request_id="", outcomes=(), sequence=0) for one in stored],
        stored=stored,
    )


def put(history: History, changed: Stored) -> None:
    """Both API and store tell this of the job."""
    history.stored[:] = [changed if one.job_id == changed.job_id else one for one in history.stored]
    history.listed[:] = [changed if one.job_id == changed.job_id else one for one in history.listed]


def no_retry(history: History) -> None:
    history.steered.pop()


def lost(history: History) -> None:
    for jobs in (history.stored, history.listed):
        jobs[:] = [one for one in jobs if one.job_id != "job"]


def retried_in_vain(history: History) -> None:
    # Two changes of a final state, and one retry of which nobody knows whether it arrived.
    history.steered[-1] = Steered("again", "retry")
    history.told.append(Told("bob", "again", "CANCELLED", 6))


BROKEN: dict[str, tuple[Kind, Callable[[History], object]]] = {
    "an acknowledged job is gone": (Kind.LOST, lost),
    "no end of a job that waits for ever was ever told": (
        Kind.NOT_FINAL,
        lambda h: h.stored.append(Stored("new", "never arrived", "QUEUED", 1)),
    ),
    "a job waits for ever": (
        Kind.NOT_FINAL,
        lambda h: put(h, replace(DONE, state="QUEUED", attempt_count=0, outcomes=((1, "LOST"), (2, "RELEASED")))),
    ),
    "two jobs were acknowledged for one request": (
        Kind.TWO_JOBS,
        lambda h: h.acknowledged.append(Acknowledged("request", "again")),
    ),
    "two jobs are stored for one request": (Kind.TWO_JOBS, lambda h: put(h, replace(h.stored[1], request_id="r3"))),
    "a job came from nowhere": (Kind.UNASKED, lambda h: put(h, replace(DONE, request_id="r9"))),
    "a good submit was refused": (Kind.REFUSED, lambda h: h.refused.append(Refused("r4", "ALREADY_EXISTS"))),
    "a final state was revived": (Kind.FINAL_CHANGED, no_retry),
    "a final state was told, then another": (
        Kind.FINAL_CHANGED,
        lambda h: h.told.append(Told("bob", "job", "CANCELLED", 4)),
    ),
    "a final state changed more often than it was retried": (Kind.FINAL_CHANGED, retried_in_vain),
    "a final job was told to run": (Kind.FINAL_CHANGED, lambda h: h.told.append(Told("bob", "dead", "RUNNING", 4))),
    "two results of one revision": (
        Kind.TOLD_APART,
        lambda h: h.told.append(Told("eve", "job", "SUCCEEDED", 5, "run-1")),
    ),
    "what was told is not what is stored": (Kind.TOLD_APART, lambda h: put(h, replace(DONE, result="run-1"))),
    "an observer was set back": (Kind.BACKWARDS, lambda h: h.told.append(Told("ada", "job", "RUNNING", 3))),
    "the store was set back": (Kind.BACKWARDS, lambda h: h.told.append(Told("ada", "job", "SUCCEEDED", 9, "run-2"))),
    "a job ran on after its cancel": (
        Kind.CANCEL_FORGOTTEN,
        lambda h: put(h, replace(h.stored[1], state="FAILED", outcomes=((1, "FAILED"),), attempt_count=1)),
    ),
    "a cancel was answered with a job that waits": (
        Kind.CANCEL_FORGOTTEN,
        lambda h: h.steered.append(Steered("job", "cancel", "QUEUED", 2)),
    ),
    "a job that was cancelled succeeded": (
        Kind.FINAL_CHANGED,
        lambda h: h.told.append(Told("bob", "job", "CANCELLED", 3)),
    ),
    "a paused job ran": (Kind.PAUSE_FORGOTTEN, lambda h: h.steered.append(Steered("job", "pause", "PAUSED", 2))),
    "two outcomes were accepted": (
        Kind.TWO_OUTCOMES,
        lambda h: put(h, replace(DONE, outcomes=((1, "SUCCEEDED"), (2, "SUCCEEDED")))),
    ),
    "an attempt is missing": (Kind.MISCOUNTED, lambda h: put(h, replace(DONE, outcomes=((2, "SUCCEEDED"),)))),
    "an attempt was counted twice": (Kind.MISCOUNTED, lambda h: put(h, replace(DONE, attempt_count=2))),
    "a lost delivery was not counted": (Kind.MISCOUNTED, lambda h: put(h, replace(DONE, lost_count=0))),
    "a handler ran in an attempt that there was not": (
        Kind.MISCOUNTED,
        lambda h: h.ran.append(Ran("job", 3, "run-9", "body")),
    ),
    "a result without a run": (Kind.NO_SUCH_RUN, lambda h: h.ran.remove(Ran("job", 2, "run-2", "body"))),
    "a stale attempt's result was accepted": (Kind.NO_SUCH_RUN, lambda h: put(h, replace(DONE, result="run-1"))),
    "a handler got another job's parameters": (
        Kind.NO_SUCH_RUN,
        lambda h: h.ran.append(Ran("job", 1, "run-9", "b2")),
    ),
    "a job failed that cannot": (
        Kind.WRONG_END,
        lambda h: put(h, replace(DONE, state="FAILED", result="", outcomes=((1, "LOST"), (2, "FAILED")))),
    ),
    "a job was cancelled by nobody": (
        Kind.WRONG_END,
        lambda h: put(h, replace(DONE, state="CANCELLED", attempt_count=0, outcomes=((1, "LOST"), (2, "CANCELLED")))),
    ),
    "a follower was told again": (Kind.TOLD_TWICE, lambda h: h.followed.append(replace(h.followed[0], sequence=31))),
    "a follower was set back": (Kind.OTHER_ORDER, lambda h: h.followed.append(Followed("fay", "job", 2, 11))),
    "a follower was told of the later change first": (
        Kind.OTHER_ORDER,
        lambda h: h.followed.insert(1, h.followed.pop(2)),
    ),
    "a follower was not told of an end": (Kind.NOT_TOLD, lambda h: h.followed.pop()),
    "a follower was told of a change that came before what it knew": (
        Kind.NOT_TOLD,
        lambda h: h.followed.insert(0, replace(h.followed.pop(1), sequence=10)),
    ),
    "the API does not know a stored job": (Kind.STORE_DIFFERS, lambda h: h.listed.pop()),
    "the API tells another state": (
        Kind.STORE_DIFFERS,
        lambda h: h.listed.append(replace(h.listed.pop(), state="FAILED")),
    ),
}


def test_nothing_is_found_where_all_is_well() -> None:
    assert violations(sound()) == []


def test_a_retry_of_which_nobody_heard_may_have_arrived() -> None:
    history = sound()
    history.steered[-1] = Steered("again", "retry")
    assert violations(history) == []


@pytest.mark.parametrize("name", BROKEN)
def test_each_violation_is_found(name: str) -> None:
    kind, spoil = BROKEN[name]
    history = sound()
    spoil(history)
    assert kind in {one.kind for one in violations(history)}, violations(history)


def test_every_kind_has_a_test() -> None:
    assert {kind for kind, _ in BROKEN.values()} == set(Kind)

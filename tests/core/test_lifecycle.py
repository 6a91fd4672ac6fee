"""Every situation of a job against everything that can happen to it, written down from the contract.

Each cell says what comes of it: a state; `=` the very same job; `-` refused, as a move that there is not;
`x` refused, as the word of a worker that holds no lease (any more).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import get_args

import pytest

from support.lives import CRASH, FIRST, HOPELESS, LATER, NOW, SECOND_LEASE, SITUATIONS, born, lease
from towpath_server.core import events as e
from towpath_server.core.errors import IllegalTransition, LeaseSuperseded
from towpath_server.core.job import JobState, Priority, Progress
from towpath_server.core.lifecycle import TRANSITIONS, apply, create

# SCH scheduled, QUE queued, LEA leased, RUN running, PAU paused, ING cancelling, SUC succeeded, FAI failed,
# CAN cancelled, OUT timed out
TABLE = """
            scheduled backoff queued lost offered confirmed last_offer running last_try cancelling paused paused_early succeeded failed cancelled timed_out
due         QUE       QUE     -      -    -       -         -          -       -        -          -      -            -         -      -         -
claimed     -         -       LEA    LEA  -       -         -          -       -        -          -      -            -         -      -         -
confirmed   x         x       x      x    LEA     =         =          =       =        =          x      x            x         x      x         x
adopted     x         x       x      RUN  LEA     LEA       LEA        RUN     RUN      ING        x      x            x         x      x         x
offer_lost  -         -       -      -    QUE     =         =          -       -        -          -      -            -         -      -         -
started     x         x       x      x    RUN     RUN       RUN        =       =        =          x      x            x         x      x         x
progressed  x         x       x      x    RUN     RUN       RUN        RUN     RUN      ING        x      x            x         x      x         x
alive       x         x       x      x    RUN     RUN       RUN        RUN     RUN      ING        x      x            x         x      x         x
succeeded   x         x       x      SUC  SUC     SUC       SUC        SUC     SUC      SUC        x      x            =         x      x         x
failed      x         x       x      x    SCH     SCH       FAI        SCH     FAI      CAN        x      x            x         =      x         x
hopeless    x         x       x      x    FAI     FAI       FAI        FAI     FAI      CAN        x      x            x         =      x         x
released    x         x       x      x    QUE     QUE       QUE        QUE     QUE      CAN        x      x            x         x      =         x
unable      x         x       x      x    QUE     QUE       FAI        QUE     FAI      CAN        x      x            x         x      =         x
worker_lost -         -       -      -    QUE     QUE       FAI        QUE     FAI      CAN        -      -            -         -      -         -
queue_over  OUT       OUT     OUT    OUT  OUT     OUT       OUT        SCH     OUT      -          OUT    OUT          -         -      -         -
run_over    OUT       OUT     OUT    OUT  OUT     OUT       OUT        SCH     OUT      -          OUT    OUT          -         -      -         -
stalled     OUT       OUT     OUT    OUT  OUT     OUT       OUT        SCH     OUT      -          OUT    OUT          -         -      -         -
total_over  OUT       OUT     OUT    OUT  OUT     OUT       OUT        OUT     OUT      -          OUT    OUT          -         -      -         -
cancel      CAN       CAN     CAN    CAN  ING     ING       ING        ING     ING      =          CAN    CAN          =         =      =         =
cancel_now  CAN       CAN     CAN    CAN  CAN     CAN       CAN        CAN     CAN      CAN        CAN    CAN          =         =      =         =
forced      -         -       -      -    -       -         -          -       -        CAN        -      -            -         -      -         -
pause       PAU       PAU     PAU    PAU  PAU     PAU       PAU        PAU     PAU      -          =      =            -         -      -         -
resume      -         -       -      -    -       -         -          -       -        -          QUE    SCH          -         -      -         -
retry       -         -       -      -    -       -         -          -       -        -          -      -            QUE       QUE    QUE       QUE
changed     SCH       SCH     QUE    QUE  LEA     LEA       LEA        RUN     RUN      ING        PAU    PAU          -         -      -         -
"""  # noqa: E501

STATES = {
    "SCH": JobState.SCHEDULED,
    "QUE": JobState.QUEUED,
    "LEA": JobState.LEASED,
    "RUN": JobState.RUNNING,
    "PAU": JobState.PAUSED,
    "ING": JobState.CANCELLING,
    "SUC": JobState.SUCCEEDED,
    "FAI": JobState.FAILED,
    "CAN": JobState.CANCELLED,
    "OUT": JobState.TIMED_OUT,
}

EVENTS: Mapping[str, e.Event] = {
    "due": e.Due(),
    "claimed": e.Claimed(lease(SECOND_LEASE)),
    "confirmed": e.Confirmed(FIRST),
    "adopted": e.Adopted(FIRST, "session-2"),
    "offer_lost": e.OfferLost(),
    "started": e.Started(FIRST),
    "progressed": e.Progressed(FIRST, Progress(percent=50)),
    "alive": e.Progressed(FIRST, None),
    "succeeded": e.Succeeded(FIRST, b"42"),
    "failed": e.Failed(FIRST, CRASH),
    "hopeless": e.Failed(FIRST, HOPELESS),
    "released": e.Released(FIRST),
    "unable": e.Released(FIRST, "no such folder", unable=True),
    "worker_lost": e.WorkerLost(),
    "queue_over": e.TimedOut(e.Timeout.QUEUE),
    "run_over": e.TimedOut(e.Timeout.EXECUTION),
    "stalled": e.TimedOut(e.Timeout.STALL),
    "total_over": e.TimedOut(e.Timeout.TOTAL),
    "cancel": e.Cancel(),
    "cancel_now": e.Cancel(force=True),
    "forced": e.Forced(),
    "pause": e.Pause(),
    "resume": e.Resume(),
    "retry": e.Retry(position=77),
    "changed": e.Changed(LATER, Priority.CRITICAL),
}


def cells() -> Iterator[tuple[str, str, str]]:
    """Situation, event and expectation of each cell."""
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    situations = [name.replace("_", " ") for name in head]
    assert situations == list(SITUATIONS)
    assert [row[0] for row in rows] == list(EVENTS)
    for name, *row in rows:
        yield from ((situation, name, cell) for situation, cell in zip(situations, row, strict=True))


CELLS = list(cells())
REFUSALS = {"-": IllegalTransition, "x": LeaseSuperseded}


@pytest.mark.parametrize(("situation", "name", "expected"), CELLS, ids=lambda value: value.replace(" ", "_"))
def test_every_pair(situation: str, name: str, expected: str) -> None:
    job, event = SITUATIONS[situation](), EVENTS[name]
    if expected in REFUSALS:
        with pytest.raises(REFUSALS[expected]):
            apply(job, event, NOW + 5)
    else:
        after = apply(job, event, NOW + 5)
        if expected == "=":
            assert after is job
        else:
            assert after.state is STATES[expected]
            assert after.update_time == NOW + 5
            assert after.revision == job.revision
            assert after.job_id == job.job_id
            assert after != job
    assert job == SITUATIONS[situation]()


def test_the_table_knows_every_state_and_every_event() -> None:
    assert {job().state for job in SITUATIONS.values()} == set(JobState)
    assert {type(event) for event in EVENTS.values()} == set(get_args(e.Event))


def test_the_product_has_these_moves_and_no_others() -> None:
    seen: dict[JobState, dict[type, set[JobState]]] = {state: {} for state in JobState}
    for situation, name, expected in CELLS:
        if expected not in REFUSALS:
            before = SITUATIONS[situation]().state
            after = before if expected == "=" else STATES[expected]
            seen[before].setdefault(type(EVENTS[name]), set()).add(after)
    moves = {state: {event: set(targets) for event, targets in row.items()} for state, row in TRANSITIONS.items()}
    assert moves == seen


def test_a_refusal_names_the_job_its_state_and_the_move() -> None:
    with pytest.raises(IllegalTransition, match=r"^Job job_[0-9a-z]{13} is QUEUED: it cannot be resumed\.$"):
        apply(born(), e.Resume(), NOW)


@pytest.mark.parametrize(
    ("schedule_time", "state", "queue_time"),
    [
        (None, JobState.QUEUED, NOW),
        (NOW - 1, JobState.QUEUED, NOW),
        (NOW, JobState.QUEUED, NOW),
        (NOW + 1, JobState.SCHEDULED, NOW + 1),
    ],
)
def test_birth(schedule_time: int | None, state: JobState, queue_time: int) -> None:
    job = create(9, replace(LATER, schedule_time=schedule_time), 3, Priority.HIGH, NOW, reason="why")
    assert (job.state, job.queue_time, job.state_reason) == (state, queue_time, "why")
    assert (job.job_id, job.position, job.lane_id, job.priority) == (9, 9, 3, Priority.HIGH)
    assert (job.attempt, job.attempt_count, job.lost_count, job.revision) == (0, 0, 0, 1)

"""Promises that are held against what somebody is told: the auditor looks, these are their names."""

from __future__ import annotations


def what_is_told_is_committed() -> None:
    """Whatever anybody is told of a job was committed, in exactly these words."""


def nothing_acknowledged_is_lost() -> None:
    """An acknowledged job is in the store, whatever happens to the scheduler afterwards."""


def requests_have_one_answer() -> None:
    """The same request_id is always answered with the same job."""


def polls_are_answered_once() -> None:
    """A repeated poll gets the leases that it got the first time: no others, and all that are still its own."""


def a_lease_runs_once() -> None:
    """A lease is run by the worker that it was granted to, once."""


def logs_are_the_attempts_own() -> None:
    """Under an attempt's log stands what that attempt wrote."""


def an_ack_says_what_counts() -> None:
    """The ack of a result comes with ABANDON where it came too late, and without where the job SUCCEEDED by it."""


def the_store_says_what_was_committed() -> None:
    """After a crash the store holds all that was committed, and nothing else."""


def everything_ends() -> None:
    """Once all is well again, every job reaches a final state: nothing starves."""


def who_lives_is_not_taken_for_dead() -> None:
    """A scheduler keeps its workers while it lives and the store answers."""


def no_verb_breaks() -> None:
    """No verb fails with anything but an error that it promises."""


def a_cancel_is_answered_with_its_effect() -> None:
    """Whoever cancels a job is told that it is being cancelled, or how it ended before."""

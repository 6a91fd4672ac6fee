"""Finds any loss and any double effect in a history: a pure function over records.

Handlers may run more than once: that is promised. What is checked is what took effect, and what anybody was told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from support.history import Asked, Followed, History, Steered, Stored

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT"})
COUNTED = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT"})

RecordT = TypeVar("RecordT")
KeyT = TypeVar("KeyT", bound=Hashable)


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "an acknowledged job is not there"
    NOT_FINAL = "a job came to no end"
    TWO_JOBS = "a request_id has two jobs"
    UNASKED = "a job that nobody asked for"
    REFUSED = "a submit without fault was refused"
    FINAL_CHANGED = "a final state changed without a retry"
    TOLD_APART = "one revision was told in two ways"
    BACKWARDS = "a revision went backwards"
    CANCEL_FORGOTTEN = "a cancel was confirmed and not carried out"
    PAUSE_FORGOTTEN = "a paused job went on by itself"
    TWO_OUTCOMES = "more than one outcome was accepted"
    MISCOUNTED = "attempts do not add up"
    NO_SUCH_RUN = "a result that comes from no run of this attempt"
    WRONG_END = "a final state that nothing led to"
    TOLD_TWICE = "a follower was told of a change twice"
    OTHER_ORDER = "followers were told in another order than the store's"
    NOT_TOLD = "a follower was not told of a job's last change, or not in its place"
    STORE_DIFFERS = "API and store differ"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise."""

    kind: Kind
    about: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.words}"


def violations(history: History) -> list[Violation]:
    """All that is wrong, in a fixed order."""
    view = _View(history)
    return [violation for check in _CHECKS for violation in check(view)]


class _View:
    """A history by job and by request."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.asked: Mapping[str, Asked] = {one.request_id: one for one in history.asked}
        self.stored: Mapping[str, Stored] = {one.job_id: one for one in history.stored}
        self.told = _by(history.told, lambda one: one.job_id)
        self.steered = _by(history.steered, lambda one: one.job_id)
        self.ran = _by(history.ran, lambda one: one.job_id)

    def verbs(self, job_id: str, verb: str) -> list[Steered]:
        return [one for one in self.steered.get(job_id, ()) if one.verb == verb]

    def tellings(self, job_id: str) -> list[tuple[int, str, str]]:
        """Each revision with what was told of it, by revision, the store's own last."""
        heard = {(one.revision, one.state, one.result) for one in self.told.get(job_id, ())}
        heard |= {
            # An answer to a steering call says nothing of the result.
            (one.revision, one.state, "")
            for one in self.steered.get(job_id, ())
            if one.state not in ("", "SUCCEEDED")
        }
        if (last := self.stored.get(job_id)) is not None:
            heard.add((last.revision, last.state, last.result))
        return sorted(heard)


def _by(records: Iterable[RecordT], key: Callable[[RecordT], KeyT]) -> Mapping[KeyT, list[RecordT]]:
    grouped: defaultdict[KeyT, list[RecordT]] = defaultdict(list)
    for one in records:
        grouped[key(one)].append(one)
    return grouped


def _lost(view: _View) -> Iterator[Violation]:
    for one in view.history.acknowledged:
        if one.job_id not in view.stored:
            yield Violation(Kind.LOST, one.job_id, f"acknowledged for {one.request_id}")
    for job in view.history.stored:
        if job.state not in FINAL:
            yield Violation(Kind.NOT_FINAL, job.job_id, job.state)


def _requests(view: _View) -> Iterator[Violation]:
    jobs: defaultdict[str, set[str]] = defaultdict(set)
    for acknowledged in view.history.acknowledged:
        jobs[acknowledged.request_id].add(acknowledged.job_id)
    for stored in view.history.stored:
        jobs[stored.request_id].add(stored.job_id)
    for request_id, ids in jobs.items():
        if len(ids) > 1:
            yield Violation(Kind.TWO_JOBS, request_id, ", ".join(sorted(ids)))
        if request_id not in view.asked:
            yield Violation(Kind.UNASKED, request_id, ", ".join(sorted(ids)))
    for refused in view.history.refused:
        yield Violation(Kind.REFUSED, refused.request_id, refused.why)


def _finals(view: _View) -> Iterator[Violation]:
    for job_id in view.told.keys() | view.stored.keys():
        tellings = view.tellings(job_id)
        retries = view.verbs(job_id, "retry")
        known = [one.revision for one in retries if one.state]
        unknown = len(retries) - len(known)
        finals = sorted({revision for revision, state, _ in tellings if state in FINAL})
        last = max((revision for revision, *_ in tellings), default=0)
        # What was told after a final state, final or not, needs a retry between them.
        for final, later in pairwise([*finals, last]):
            if later > final and not any(final < one <= later for one in known):
                unknown -= 1
                if unknown < 0:
                    yield Violation(Kind.FINAL_CHANGED, job_id, _words(tellings))
                    break


def _tellings(view: _View) -> Iterator[Violation]:
    for job_id in view.told.keys() | view.stored.keys():
        tellings = view.tellings(job_id)
        ways = Counter(revision for revision, *_ in tellings)
        if any(count > 1 for count in ways.values()):
            yield Violation(Kind.TOLD_APART, job_id, _words(tellings))
        if (stored := view.stored.get(job_id)) and tellings[-1][0] > stored.revision:
            yield Violation(Kind.BACKWARDS, job_id, f"told {tellings[-1][0]}, and {stored.revision} is stored")
        heard: dict[str, int] = {}
        for one in view.told.get(job_id, ()):
            if one.revision < heard.get(one.observer, 0):
                words = f"{one.observer} was told {heard[one.observer]}, then {one.revision}"
                yield Violation(Kind.BACKWARDS, job_id, words)
            heard[one.observer] = max(one.revision, heard.get(one.observer, 0))


def _words(tellings: list[tuple[int, str, str]]) -> str:
    return ", then ".join(f"{state} {result}".strip() + f" at {revision}" for revision, state, result in tellings)


def _orders(view: _View) -> Iterator[Violation]:
    for job_id, steered in view.steered.items():
        tellings = view.tellings(job_id)
        for one in steered:
            after = [state for revision, state, _ in tellings if revision > one.revision]
            cancelled = one.verb == "cancel" and bool(one.state) and not view.verbs(job_id, "retry")
            if cancelled and ({one.state, *after} - {"CANCELLING", "CANCELLED", *FINAL} or "FAILED" in after):
                yield Violation(Kind.CANCEL_FORGOTTEN, job_id, ", then ".join([one.state, *after]))
            paused = (
                one.verb == "pause" and bool(one.state) and not {"resume", "retry"} & {other.verb for other in steered}
            )
            if paused and {one.state, *after} - {"PAUSED", "CANCELLED"}:
                yield Violation(Kind.PAUSE_FORGOTTEN, job_id, ", then ".join([one.state, *after]))


def _outcomes(view: _View) -> Iterator[Violation]:
    for job in view.history.stored:
        retries = len(view.verbs(job.job_id, "retry"))
        outcomes = Counter(outcome for _, outcome in job.outcomes)
        if outcomes["SUCCEEDED"] > 1 + retries or len(dict(job.outcomes)) < len(job.outcomes):
            yield Violation(Kind.TWO_OUTCOMES, job.job_id, str(job.outcomes))
        if {number for number, _ in job.outcomes} != set(range(1, job.attempt + 1)):
            yield Violation(Kind.MISCOUNTED, job.job_id, f"{job.attempt} attempts, outcomes {job.outcomes}")
        counted = sum(outcomes[one] for one in COUNTED)
        wrong = counted < job.attempt_count or outcomes["LOST"] < job.lost_count - 1 if retries else False
        if not retries:
            # A lost attempt whose result came late, or whose worker came back, is in the history as what it became.
            wrong = counted != job.attempt_count or outcomes["LOST"] > job.lost_count
        if wrong:
            words = f"attempt_count {job.attempt_count}, lost_count {job.lost_count}, outcomes {job.outcomes}"
            yield Violation(Kind.MISCOUNTED, job.job_id, words)


def _runs(view: _View) -> Iterator[Violation]:
    for job in view.history.stored:
        asked, runs = view.asked.get(job.request_id), view.ran.get(job.job_id, [])
        if job.state == "SUCCEEDED":
            accepted = [one for one in runs if one.run == job.result]
            if not accepted or accepted[0].attempt != job.attempt:
                yield Violation(Kind.NO_SUCH_RUN, job.job_id, f"{job.result!r} in attempt {job.attempt}, runs {runs}")
            if any(one.attempt > job.attempt for one in runs):
                yield Violation(Kind.MISCOUNTED, job.job_id, f"{job.attempt} attempts, runs {runs}")
        if asked is not None and any(one.body != asked.body for one in runs):
            yield Violation(Kind.NO_SUCH_RUN, job.job_id, f"asked for {asked.body!r}, runs {runs}")
        cancelled = ("CANCELLED",) if view.verbs(job.job_id, "cancel") else ()
        if asked is not None and job.state in FINAL and job.state not in (*asked.ends, *cancelled):
            yield Violation(Kind.WRONG_END, job.job_id, f"{job.state}, not {' or '.join(asked.ends)}")
    names = Counter(one.run for one in view.history.ran)
    for name, count in names.items():
        if count > 1:
            yield Violation(Kind.NO_SUCH_RUN, name, f"{count} runs of one name")


def _store(view: _View) -> Iterator[Violation]:
    listed = {one.job_id: one for one in view.history.listed}
    for job_id in sorted(listed.keys() | view.stored.keys()):
        told, stored = listed.get(job_id), view.stored.get(job_id)
        if told is None or stored is None or _told_of(told) != _told_of(stored):
            yield Violation(Kind.STORE_DIFFERS, job_id, f"API {told}, store {stored}")


def _followers(view: _View) -> Iterator[Violation]:
    for observer, told in _by(view.history.followed, lambda one: one.observer).items():
        sequences = [one.sequence for one in told]
        if sequences != sorted(sequences):
            yield Violation(Kind.OTHER_ORDER, observer, "the sequences up to which all was told went backwards")
        for change, count in Counter((one.job_id, one.revision) for one in told).items():
            if count > 1:
                yield Violation(Kind.TOLD_TWICE, change[0], f"{observer}, {count} times of revision {change[1]}")
        yield from _last_changes(view, observer, told)


def _last_changes(view: _View, observer: str, told: list[Followed]) -> Iterator[Violation]:
    """What is in the store now has a sequence: by those, everybody must have been told of it."""
    # With each message: up to which sequence all was told before it.
    before, behind, last = dict[tuple[str, int], tuple[int, int]](), 0, 0
    for one in told:
        if one.sequence > last:
            behind, last = last, one.sequence
        before[one.job_id, one.revision] = behind, one.sequence
    order = []
    for job in view.history.stored:
        behind, upto = before.get((job.job_id, job.revision), (0, 0))
        if not behind < job.sequence <= upto:
            words = f"{observer}: revision {job.revision} at {job.sequence}, told after {behind} up to {upto}"
            yield Violation(Kind.NOT_TOLD, job.job_id, words)
        else:
            order.append((job.sequence, job.job_id))
    places = {job_id: place for place, (_, job_id) in enumerate(sorted(order))}
    stored = {job.job_id: job.revision for job in view.history.stored}
    heard = [one for one in told if one.job_id in places and stored[one.job_id] == one.revision]
    for one, after in pairwise(heard):
        if places[one.job_id] > places[after.job_id]:
            yield Violation(Kind.OTHER_ORDER, after.job_id, f"{observer} was told of {one.job_id} first")


def _told_of(job: Stored) -> tuple[object, ...]:
    return (job.state, job.revision, job.attempt, job.attempt_count, job.lost_count, job.result)


_CHECKS: tuple[Callable[[_View], Iterable[Violation]], ...] = (
    _lost,
    _requests,
    _finals,
    _tellings,
    _orders,
    _outcomes,
    _runs,
    _followers,
    _store,
)

"""What everybody was told of jobs: the records that clients and handlers write. `support.checker` judges them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asked:
    """A submit is about to be sent; `ends` are the final states that this job can come to if nobody steers it."""

    request_id: str
    body: str
    ends: tuple[str, ...] = ("SUCCEEDED",)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The scheduler said that it has the job."""

    request_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The scheduler refused a submit in which nothing is wrong."""

    request_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """What one observer heard of a job, in the order heard: by an answer, a watch or a wait."""

    observer: str
    job_id: str
    state: str
    revision: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a follower of all jobs heard, in the order heard: a change, and up to which sequence all was told then."""

    observer: str
    job_id: str
    revision: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Steered:
    """A cancel, retry, pause or resume was sent once; without state and revision nobody knows whether it arrived."""

    job_id: str
    verb: str
    state: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Ran:
    """A handler ran; `run` is the name of this run alone."""

    job_id: str
    attempt: int
    run: str
    body: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A job at the end; `result` names the run that it came from, `outcomes` what became of each attempt."""

    job_id: str
    request_id: str
    state: str
    revision: int
    attempt: int = 0
    attempt_count: int = 0
    lost_count: int = 0
    result: str = ""
    outcomes: tuple[tuple[int, str], ...] = ()
    # The place of its last change among all changes; 0: not known.
    sequence: int = 0


@dataclass(slots=True)
class History:
    """All records of one run. Lists may be appended to from many threads."""

    asked: list[Asked] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)
    steered: list[Steered] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    # As the API tells it, and as it lies in the store with the attempts.
    listed: list[Stored] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)

"""Named places where a test lets the worker die, as `kill -9` or a power cut would: `TOWPATH_FAILPOINTS`.

`outcome.spooled=kill:7,ack.after=stop` kills the process when an outcome was spooled for the 7th time and stops it
(SIGSTOP) after the first ack. Where the variable is not set, reaching a place does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from itertools import count

VARIABLE = "TOWPATH_FAILPOINTS"

POINTS: Mapping[str, str] = {
    "lease.received": "a poll was answered, and no job has begun",
    "outcome.before": "a job is over, and its outcome is not in the spool",
    "outcome.spooled": "the outcome is in the spool, and not sent",
    "ack.before": "the scheduler has acked, and the spool still holds what it acked",
    "ack.after": "what was acked is forgotten here",
    "model.staged": "a training is over and its model written, and nobody was told",
    "model.published": "a model has its name, and its report is still in the spool",
}
ACTIONS = {"kill": "SIGKILL", "stop": "SIGSTOP"}


def armed(words: str, points: Mapping[str, str] = POINTS) -> Callable[[str], None]:
    """What to call at each place. Raises ValueError for a place or an action that there is not."""
    plan: dict[str, tuple[int, int]] = {}
    for word in filter(None, words.split(",")):
        name, _, what = word.partition("=")
        action, _, nth = what.partition(":")
        if name not in points or action not in ACTIONS or not (nth or "1").isdigit():
            places = ", ".join(points)
            raise ValueError(f"{VARIABLE}: {word!r} is not NAME=kill or NAME=stop, with :NTH or without; {places}")
        plan[name] = (getattr(signal, ACTIONS[action]), int(nth or "1"))
    if not plan:
        return lambda name: None
    reached = {name: count(1) for name in plan}

    def reach(name: str) -> None:
        if name in plan and next(reached[name]) == plan[name][1]:
            os.kill(os.getpid(), plan[name][0])

    return reach


reach = armed(os.environ.get(VARIABLE, ""))

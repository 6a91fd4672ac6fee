"""Named places where a test lets the scheduler die, as `kill -9` or a power cut would: `TOWPATH_FAILPOINTS`.

`commit.before=kill:7,answer.after=stop` kills the process when it is before a commit for the 7th time and stops it
(SIGSTOP) the first time that answers were given. With `@FILE` behind it only that counts which is reached while the
file is there. Where the variable is not set, reaching a place does nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

VARIABLE = "TOWPATH_FAILPOINTS"

POINTS: Mapping[str, str] = {
    "commit.before": "all is written, and nothing is on disk",
    "commit.after": "all is on disk, and nobody knows",
    "answer.before": "the event loop is about to tell those who wait",
    "answer.after": "those who wait were told; what they send out is not on its way yet",
    "start.recovered": "the sessions of before are rebuilt, and nothing is served yet",
}
ACTIONS = {"kill": "SIGKILL", "stop": "SIGSTOP"}


def armed(words: str, points: Mapping[str, str] = POINTS) -> Callable[[str], None]:
    """What to call at each place. Raises ValueError for a place or an action that there is not."""
    plan: dict[str, tuple[int, int, str]] = {}
    for word in filter(None, words.split(",")):
        name, _, what = word.partition("=")
        what, _, file = what.partition("@")
        action, _, nth = what.partition(":")
        if name not in points or action not in ACTIONS or not (nth or "1").isdigit():
            places = ", ".join(points)
            raise ValueError(
                f"{VARIABLE}: {word!r} is not NAME=kill or NAME=stop, with :NTH and @FILE or without; {places}"
            )
        plan[name] = (getattr(signal, ACTIONS[action]), int(nth or "1"), file)
    if not plan:
        return lambda name: None
    reached = {name: count(1) for name in plan}

    def reach(name: str) -> None:
        if name not in plan:
            return
        number, nth, file = plan[name]
        if (not file or Path(file).exists()) and next(reached[name]) == nth:
            # To this thread: it would run on for a moment while another one takes the signal for all.
            signal.pthread_kill(threading.get_ident(), number)

    return reach


reach = armed(os.environ.get(VARIABLE, ""))

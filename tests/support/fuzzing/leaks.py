"""What an answer may never show: where the program lies, what it is made of, more of a request than a clipped value."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from support.fuzzing.messages import CANARY

MOST_OF_A_VALUE = 104
MOST_BYTES_OF_TEXT = 600
MOST_BYTES_OF_DETAILS = 2_048
_OWN = (sys.prefix, Path(__file__).parents[3])
# Names of the program's own parts, of its language and of its libraries.
_INSIDE = re.compile(
    r"Traceback|towpath_server|towpath_worker|\w+\.py\b|Error\(|Exception|<class|<function| object at 0x|File \"|"
    r"site-packages|sqlite|psycopg|asyncio|coroutine|google\.protobuf\.message|upb|\bCEL\b|NoneType|__\w+__|\bself\b"
)


def found(text: str, *places: Path) -> list[str]:
    """What the text shows that it must not; `places` are folders of the server's own."""
    # What a client sent may itself look like this, and a clipped value may show it.
    quoted = text.replace("{0.__class__}", "").replace("/proc/self/environ", "")
    shown = [one[0] for one in _INSIDE.finditer(quoted)]
    shown += [str(place) for place in (*places, *_OWN) if str(place) in text]
    if any(CANARY[start : start + MOST_OF_A_VALUE] in text for start in range(0, len(CANARY) - MOST_OF_A_VALUE, 32)):
        shown.append("more than a clipped value of the request")
    return shown

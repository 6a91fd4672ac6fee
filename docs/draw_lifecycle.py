"""Draw docs/lifecycle.md from the transition table: `make stubs`. With `--check`, say whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from towpath_server.core.events import Event
from towpath_server.core.job import JobState
from towpath_server.core.lifecycle import TRANSITIONS

PAGE = Path(__file__).with_name("lifecycle.md")
BEGIN, END = "<!-- drawn from core/lifecycle.py -->", "<!-- end of what is drawn -->"
FINAL = [state for state in JobState if state.is_final]


def words(event: type[Event]) -> str:
    """`OfferLost` as `offer lost`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in event.__name__).strip()


def diagram() -> list[str]:
    """Who becomes what, in mermaid; events that leave the state as it is are in the table only."""
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for state, moves in TRANSITIONS.items():
        for event, targets in moves.items():
            for target in targets:
                if target is not state:
                    source = "FINAL" if state.is_final else state.name
                    edges[source, target.name] += (
                        [words(event)] if words(event) not in edges[source, target.name] else []
                    )
    lines = ["stateDiagram-v2", "    state FINAL {", *(f"        {state.name}" for state in FINAL), "    }"]
    lines += ["    [*] --> SCHEDULED: created, to run later", "    [*] --> QUEUED: created"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in edges.items()]
    return ["```mermaid", *lines, "```"]


def table() -> list[str]:
    """Every event in every state; a blank is refused with FAILED_PRECONDITION and changes nothing."""
    events = list(dict.fromkeys(event for moves in TRANSITIONS.values() for event in moves))
    rows = ["| | " + " | ".join(state.name for state in TRANSITIONS) + " |", "|---" * (len(TRANSITIONS) + 1) + "|"]
    for event in events:
        cells = [" or ".join(target.name for target in moves.get(event, ())) for moves in TRANSITIONS.values()]
        rows.append(f"| **{words(event)}** | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Put the drawing between its marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a byte would change")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    drawn = "\n\n".join([BEGIN, "\n".join(diagram()), "\n".join(table()), END])
    fresh = before + drawn + rest.split(END)[1]
    if check and fresh != page:
        sys.exit("docs/lifecycle.md is out of date with core/lifecycle.py: run `make stubs`")
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()

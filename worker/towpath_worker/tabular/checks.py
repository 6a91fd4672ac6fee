"""How wrong input is told: everything at once, with the nearest right names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from towpath_worker.errors import InvalidInput


def refuse(problems: Sequence[str]) -> None:
    """Raises InvalidInput that tells all problems; does nothing where there are none."""
    if problems:
        raise InvalidInput("; ".join(problems))


def one_of(name: str, names: Iterable[str], *, limit: int = 30) -> str:
    """`did you mean 'a' or 'b'?` where something is near, and all the names there are (at most `limit`)."""
    known = list(names)
    lowered = {each.lower(): each for each in reversed(known)}
    near = [lowered[match] for match in get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)]
    others = [each for each in known if each not in near]
    listed = [*near, *others][:limit]
    more = f" and {len(known) - limit:,} more" if len(known) > limit else ""
    hint = f"did you mean {' or '.join(map(repr, near))}? There" if near else "there"
    return f"{hint} are: {', '.join(listed)}{more}" if listed else "there are none"


def listed(names: Iterable[str], *, limit: int = 10) -> str:
    """The first names, quoted, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - limit:,} more" if len(known) > limit else ""
    return ", ".join(map(repr, known[:limit])) + more

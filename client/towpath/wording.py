"""Words and figures for people, and where they are shown."""

from __future__ import annotations

import sys

from towpath.types import Progress


def in_notebook() -> bool:
    """Whether a notebook runs this, and not IPython on a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def metrics(progress: Progress) -> str:
    """`logloss 0.2310, round 42`."""
    return ", ".join(f"{name} {number(value)}" for name, value in sorted(progress.metrics.items()))


def eta(progress: Progress) -> str:
    """`3 min 20 s left`; empty where it is not known."""
    if progress.eta is None:
        return ""
    seconds = max(round(progress.eta.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s left"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s left"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min left"


def number(value: float) -> str:
    """At most four decimals, whole numbers in full."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def one_line(text: str) -> str:
    """The text with what could act on a terminal written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

"""Moments and durations for people."""

from __future__ import annotations

from datetime import datetime, timedelta


def moment(found: datetime | None) -> str:
    """`2026-11-22 05:20:11` in local time; empty where the moment is not set."""
    return f"{found.astimezone():%Y-%m-%d %H:%M:%S}" if found else ""


def since(start: datetime | None, end: datetime | None) -> str:
    """How long from one moment to the other; empty where one is not set."""
    return span((end - start).total_seconds()) if start and end else ""


def length(found: timedelta | None) -> str:
    """A duration; empty where it is not set."""
    return span(found.total_seconds()) if found else ""


def span(seconds: float) -> str:
    """`12 ms`, `4.2 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"

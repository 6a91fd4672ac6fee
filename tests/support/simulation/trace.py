"""What happened, step by step: short lines, and a digest by which two runs of a seed are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class Trace:
    """The lines of one run."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._names: dict[object, str] = {}
        self.lines: list[str] = []

    def step(self, who: str, what: str) -> None:
        """Something happened."""
        self.lines.append(f"{self._now():11.6f} {who:10} {what}")

    def name(self, kind: str, thing: object) -> str:
        """A short name for an id or a token: the first job is j1."""
        known = self._names.get((kind, thing))
        if known is None:
            number = self._names.setdefault(kind, "0")
            self._names[kind] = str(int(number) + 1)
            known = self._names[kind, thing] = f"{kind}{int(number) + 1}"
        return known

    def job(self, job_id: int) -> str:
        """A job's short name."""
        return self.name("j", job_id)

    def lease(self, token: str) -> str:
        """A lease's short name."""
        return self.name("t", token)

    @property
    def digest(self) -> str:
        """Of all lines."""
        return hashlib.blake2b("\n".join(self.lines).encode(), digest_size=16).hexdigest()

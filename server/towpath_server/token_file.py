"""The file in which the first admin's token lies, for nobody but this user to read."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import randbelow

# Several schedulers that begin at once on one machine may write it at the same moment.
_TRIES = 20
# So long before one has written, another one of them may have begun (nanoseconds).
_AT_ONCE = 60 * 10**9
_RANDOM_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Written:
    """A token that was written to `path` at this time."""

    path: Path
    moment: int

    def withdraw(self, secret: str) -> None:
        """Nobody takes it: remove it, wherever others may have put it, and put back what it took the place of."""
        # They may move it while it is looked for.
        if not any(_remove(self.path, secret) for _ in range(_TRIES)) or self.path.exists():
            return
        beside = {moment: file for file in _asides(self.path) if (moment := _moment(file)) >= self.moment - _AT_ONCE}
        if beside:
            # It may be another one that nobody takes: who wrote that will remove it, and put back the next.
            with suppress(FileNotFoundError):
                beside[max(beside)].rename(self.path)


def write(path: Path, secret: str) -> Written:
    """Write a token. One that is there already is kept beside it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in reversed(range(_TRIES)):
        try:
            if path.exists():
                # A name that nobody else takes for another one.
                path.rename(path.with_name(f"{path.name}.{time.time_ns()}{randbelow(10**_RANDOM_DIGITS):06}"))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            break
        except (FileExistsError, FileNotFoundError):
            if not left:
                raise
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    return Written(path, time.time_ns())


@dataclass(frozen=True, slots=True)
class WrittenNew:
    """A token that was written to a file of its own."""

    path: Path

    def withdraw(self, secret: str) -> None:
        """Nobody takes it: remove it, if it is still there."""
        with suppress(FileNotFoundError):
            if self.path.read_text(encoding="utf-8", errors="replace").strip() == secret:
                self.path.unlink()


def write_new(path: Path, secret: str) -> WrittenNew:
    """Write a token to a file that must not be there yet, not even as a link. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return WrittenNew(path)


def _remove(path: Path, secret: str) -> bool:
    """Whether it was found."""
    for file in (path, *_asides(path)):
        with suppress(FileNotFoundError):
            if file.read_text(encoding="utf-8", errors="replace").strip() == secret:
                file.unlink()
                return True
    return False


def _asides(path: Path) -> list[Path]:
    return [file for file in path.parent.glob(f"{path.name}.*") if file.suffix[1:].isdigit()]


def _moment(aside: Path) -> int:
    """When it was put aside."""
    return int(aside.suffix[1:-_RANDOM_DIGITS] or 0)

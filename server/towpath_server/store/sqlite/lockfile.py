"""An exclusive lock on a file, held by this process until it is let go or the process ends: POSIX and Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Windows locks bytes, and a locked byte cannot be read: it lies behind the process id that people look at.
_LOCKED_BYTE = 1 << 20

# A user and a group, by number.
Owner = tuple[int, int]


class Locked(Exception):
    """Somebody else holds this lock."""


class LockFile:
    """A held lock. The file stays behind when it is let go: to remove it would race with the next one who takes it."""

    def __init__(self, path: Path, owner: Owner | None = None) -> None:
        """Takes the lock at once, or raises `Locked` (its text is the holder's process id) or `OSError`.

        The file is then `owner`'s, where one is given.
        """
        # Through a link, root would write to another file, and give it away.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(path, flags, 0o600)
        try:
            _lock(self._descriptor)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            self.release()
            raise Locked(holder or "unknown") from error
        except OSError:
            self.release()
            raise
        try:
            if owner is not None and os.fstat(self._descriptor).st_nlink == 1:
                os.fchown(self._descriptor, *owner)
        except OSError:
            self.release()
            raise
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Lets go. Harmless when done before."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

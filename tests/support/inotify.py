"""Which files this machine opens and reads while a test looks on: Linux's inotify."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ACCESSED, MODIFIED, OPENED = 0x01, 0x02, 0x20
IN_NONBLOCK = 0x800
IS_AVAILABLE = sys.platform.startswith("linux")
_EVENT = struct.Struct("iIII")


class Looker:
    """What happened to the watched files since it was last asked."""

    def __init__(self, descriptor: int, paths: dict[int, Path]) -> None:
        self._descriptor, self._paths = descriptor, paths

    def seen(self) -> set[tuple[str, str]]:
        """Names of files with what was done to them: opened, read, written. An O_PATH or a stat is neither."""
        done = set()
        try:
            events = os.read(self._descriptor, 1 << 20)
        except BlockingIOError:
            return set()
        while events:
            watch, mask, _, length = _EVENT.unpack_from(events)
            events = events[_EVENT.size + length :]
            for bit, word in ((OPENED, "opened"), (ACCESSED, "read"), (MODIFIED, "written")):
                if mask & bit and watch in self._paths:
                    done.add((self._paths[watch].name, word))
        return done


@contextmanager
def watching(*paths: Path) -> Iterator[Looker]:
    """Looks on from here. Links are followed: what is watched is the file itself, under whichever name it is opened."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(IN_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        watched = {}
        for path in paths:
            watch = libc.inotify_add_watch(descriptor, os.fsencode(path), OPENED | ACCESSED | MODIFIED)
            assert watch >= 0, (path, os.strerror(ctypes.get_errno()))
            watched[watch] = path
        yield Looker(descriptor, watched)
    finally:
        os.close(descriptor)

"""Files that hold a secret: for nobody but their owner to read, and never half written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

MODE = 0o600
# More than any of them has: written before there is a secret, for that a full disk is no surprise then.
ROOM = 4096


@contextmanager
def new(path: Path) -> Iterator[Callable[[str], None]]:
    """A file that was not there, opened before there is a secret; it is gone where the block raises. Raises OSError."""
    descriptor = _open(path)
    try:
        try:
            yield lambda text: _write(descriptor, text)
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Callable[[str], None]]:
    """What is written takes the place of a file, all at once and on the disk when that returns. Raises OSError.

    That there is room beside it is found out before there is a secret. Who wants to replace it too waits: of two who
    rotate a token at once, the one whose secret the other has made void must not be the last to write.
    """
    # What a link points to is replaced, not the link.
    target = path.resolve()
    with _alone(target.parent):
        yield from _beside(target)


def _beside(target: Path) -> Iterator[Callable[[str], None]]:
    beside = target.with_name(f"{target.name}.{secrets.token_hex(8)}.new")
    descriptor = _open(beside)

    def put(text: str) -> None:
        _write(descriptor, text)
        beside.replace(target)
        _sync_folder(target.parent)

    try:
        yield put
    finally:
        os.close(descriptor)
        beside.unlink(missing_ok=True)


def replace(path: Path, text: str) -> None:
    """Write a file in place of the one that may be there. Raises OSError."""
    with replacing(path) as put:
        put(text)


def others_may_read(path: Path) -> bool:
    """Whether more people than its owner can read a file, where the system says."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else replaces a secret in this folder meanwhile, where the system can see to that."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), MODE)
    try:
        _write(descriptor, " " * ROOM)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor


def _write(descriptor: int, text: str) -> None:
    left = raw = text.encode()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while left:
        left = left[os.write(descriptor, left) :]
    os.ftruncate(descriptor, len(raw))
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    # Not every system can.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

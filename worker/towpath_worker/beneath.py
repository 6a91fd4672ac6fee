"""Opens files below a folder, and never another: no link is followed, a file has one name, in exactly one spelling.

There are three ways, equally strict. Linux's openat2 leaves the whole walk to the kernel. Elsewhere the path is walked
name by name, by descriptor: between the check and the use nothing can be swapped. Where the system has no such calls
(Windows), each step is checked by name, and the opened file is asked where it really lies before a byte is read.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from towpath_worker import openat2

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _BINARY
#: Nothing that waits for another process, nor becomes this one's terminal.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_REPARSE_POINT = 0x400
SYSTEM = (Path("/proc"), Path("/sys"), Path("/dev"))


class Way(Enum):
    """How a path is walked."""

    OPENAT2 = "openat2"
    BY_DESCRIPTOR = "by descriptor"
    BY_NAME = "by name"


def ways() -> list[Way]:
    """The ways that this system has, the quickest first."""
    by_descriptor = os.open in os.supports_dir_fd and bool(_NO_FOLLOW)
    having = {Way.OPENAT2: openat2.is_available(), Way.BY_DESCRIPTOR: by_descriptor, Way.BY_NAME: True}
    return [way for way, there in having.items() if there]


way = ways()[0]


class Folder:
    """An open folder, by descriptor where the system can, else by its checked path."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path, self._descriptor = path, descriptor

    def names(self) -> list[str]:
        """What lies in it."""
        return os.listdir(self.path if self._descriptor is None else self._descriptor)  # noqa: PTH208

    def open(self, name: str, flags: int) -> int:
        """A descriptor of what has this name, never of what it links to."""
        if way is Way.OPENAT2 and self._descriptor is not None:
            return openat2.open_beneath(self._descriptor, name, flags, 0o644 if flags & os.O_CREAT else 0)
        return os.open(self._at(name), flags | _NO_FOLLOW | _BINARY, 0o644, dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Of what has this name, without opening it."""
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def unlink(self, name: str) -> None:
        """Deletes a file."""
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def link(self, source: str, target: str) -> None:
        """Gives a file a second name."""
        os.link(self._at(source), self._at(target), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def rename(self, source: str, target: str) -> None:
        """Gives a file another name."""
        os.rename(self._at(source), self._at(target), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def spells(self, name: str, found: os.stat_result) -> bool:
        """Whether what was found under this name has just this name, not one that the folder takes for the same.

        Folders that ignore case (macOS, Windows, some of Linux) show it by the same file under the other case; beyond
        ASCII and on Windows the rules are many, and the listing is read.
        """
        if name.isascii() and os.name == "posix":
            try:
                other = self.stat(name.swapcase())
            except OSError:
                return True
            if name.swapcase() == name or not os.path.samestat(other, found):
                return True
        return name in self.names()

    def _at(self, name: str) -> str | Path:
        return name if self._descriptor is not None else self.path / name


@contextmanager
def open_folder(root: Path, names: tuple[str, ...]) -> Iterator[Folder]:
    """The folder at these names below `root`. Raises OSError where one of them is no folder, or a link."""
    if way is Way.BY_NAME:
        yield Folder(_walk_by_name(root, names), None)
        return
    top = os.open(root, _FOLDER)
    try:
        descriptor = _walk_by_descriptor(root, top, names)
        if way is Way.OPENAT2:
            # The walk before has only looked at how each name is spelt.
            os.close(descriptor)
            descriptor = openat2.open_beneath(top, "/".join(names) or ".", _FOLDER)
    finally:
        os.close(top)
    try:
        yield Folder(root.joinpath(*names), descriptor)
    finally:
        os.close(descriptor)


def open_file(root: Path, names: tuple[str, ...], flags: int = READ) -> int:
    """A descriptor of an ordinary file with one name; raises OSError for anything else before a byte of it is read.

    `flags`: READ, or CREATE for a file that is not there yet.
    """
    with open_folder(root, names[:-1]) as folder:
        name, found = names[-1], None
        if not flags & os.O_CREAT:
            found = folder.stat(name)
            _check(found)
            _check_spelt(folder, name, found)
        descriptor = folder.open(name, flags)
        try:
            opened = os.fstat(descriptor)
            _check(opened)
            if found is not None and not os.path.samestat(found, opened):
                raise OSError(errno.EAGAIN, "changed while it was opened")
            if way is Way.BY_NAME:
                _check_whereabouts(descriptor, root, names)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _walk_by_descriptor(root: Path, top: int, names: tuple[str, ...]) -> int:
    walked = os.dup(top)
    try:
        for depth, name in enumerate(names):
            above, folder = walked, Folder(root.joinpath(*names[:depth]), walked)
            walked = folder.open(name, _FOLDER)
            try:
                _check_spelt(folder, name, os.fstat(walked))
            finally:
                os.close(above)
    except OSError:
        os.close(walked)
        raise
    return walked


def _walk_by_name(root: Path, names: tuple[str, ...]) -> Path:
    path = Path(os.path.realpath(root))
    for name in names:
        found = (path / name).lstat()
        if _is_link(found):
            raise OSError(errno.ELOOP, "is a link")
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, "is not a folder")
        _check_spelt(Folder(path, None), name, found)
        path = path / name
    return path


def _check_spelt(folder: Folder, name: str, found: os.stat_result) -> None:
    if not folder.spells(name, found):
        raise FileNotFoundError(errno.ENOENT, "is spelt otherwise")


def _check(found: os.stat_result) -> None:
    if _is_link(found):
        raise OSError(errno.ELOOP, "is a link")
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not an ordinary file")
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, "has a second name")
    if found.st_dev in _devices_of_the_system():
        raise OSError(errno.EXDEV, "is the system's")


def _is_link(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_file_attributes", 0) & _REPARSE_POINT)


@functools.cache
def _devices_of_the_system() -> frozenset[int]:
    """Of /proc and its like, wherever else they are mounted or reached from."""
    devices = {folder.stat().st_dev for folder in SYSTEM if folder.is_dir()}
    return frozenset(devices - {Path("/").stat().st_dev})


def _check_whereabouts(descriptor: int, root: Path, names: tuple[str, ...]) -> None:
    """That an opened file lies where it was looked for: a folder above it may have been swapped for a link."""
    found = whereabouts(descriptor)
    if found is not None and found != str(Path(os.path.realpath(root)).joinpath(*names)):
        raise OSError(errno.EAGAIN, "changed while it was opened")


def whereabouts(descriptor: int) -> str | None:
    """Where an open file really lies; None where the system does not tell."""
    if sys.platform == "win32":
        import ctypes
        import msvcrt

        text = ctypes.create_unicode_buffer(1 << 15)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
        length = ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, text, len(text), 0)
        return text.value.removeprefix("\\\\?\\") if 0 < length < len(text) else None
    with suppress(OSError):
        if sys.platform == "darwin":
            import fcntl

            return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    return None

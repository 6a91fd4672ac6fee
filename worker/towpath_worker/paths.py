"""What a job may read and write: files under the folders that the worker's owner allowed, and nothing else.

A path is walked from an allowed folder, name by name, by descriptor, and no link is ever followed: between the check
and the use nothing can be swapped. Where the system has no such calls (Windows), each step is checked by name and the
opened file is compared with what was checked.
"""

from __future__ import annotations

import errno
import ntpath
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from towpath_worker.errors import InvalidInput

BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_STEP = _NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)
_NEVER = (Path("/proc"), Path("/sys"), Path("/dev"))
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(file|data):", re.IGNORECASE)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Folders:
    """The folders of a worker: `data` may be read and written by jobs, `models` and `results` are the worker's own."""

    data: tuple[Path, ...]
    models: Path
    results: Path


def open_for_reading(folders: Folders, path: str) -> BinaryIO:
    """Opens an ordinary file under a data folder; relative paths are tried in each data folder in turn.

    Raises InvalidInput for anything else: outside, linked, not a file, not there.
    """
    missing = ""
    for root, names in _candidates(folders, path):
        try:
            return os.fdopen(_open(root, names, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
        except FileNotFoundError:
            missing = missing or _similar(root, names)
        except OSError as error:
            raise _refusal(path, error) from None
    raise InvalidInput(f"there is no file {path!r} in {_allowed(folders)}{missing}")


@contextmanager
def create_for_writing(folders: Folders, path: str) -> Iterator[BinaryIO]:
    """A new file under a data folder, seen by others whole or not at all; one that exists is never overwritten.

    A file that is there already with the same bytes counts as written, so that a job that is run again succeeds.
    Raises InvalidInput where the path is not allowed, its folder is missing, or another file is there.
    """
    for root, names in _candidates(folders, path):
        partial = (*names[:-1], f".{names[-1][:100]}.{secrets.token_hex(6)}.partial")
        try:
            descriptor = _open(root, partial, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refusal(path, error) from None
        with os.fdopen(descriptor, "w+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                _reveal(root, partial, names, file, path)
            finally:
                file.close()
                with suppress(OSError), _folder(root, names[:-1]) as folder:
                    folder.unlink(partial[-1])
        return
    raise InvalidInput(f"there is no folder for {path!r} in {_allowed(folders)}: make it first, or name another file")


def _candidates(folders: Folders, path: str) -> list[tuple[Path, tuple[str, ...]]]:
    """The data folders in which the path could lie, each with the names from there on."""
    if not folders.data:
        raise InvalidInput("this worker has no data folder: start it with --data-dir FOLDER")
    windows = os.name == "nt"
    text = path.replace("\\", "/") if windows else path
    if "\0" in path or not path.strip():
        raise InvalidInput("the path is empty or has a NUL in it: give the name of a file")
    if path.startswith(("\\\\", "//")):
        raise InvalidInput(f"{path!r} is on a network: give a file in {_allowed(folders)}")
    if _URL.match(path):
        raise InvalidInput(f"{path!r} is a URL: download it into {_allowed(folders)} and give the file's name")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput(f"{path!r} has '..' in it: give a path inside {_allowed(folders)}")
    drive = ntpath.splitdrive(text)[0] if windows else ""
    if windows and any(":" in part or _RESERVED.match(part) for part in parts[bool(drive) :]):
        raise InvalidInput(f"{path!r} names a device or a stream: give an ordinary file")
    if drive and not text.startswith(drive + "/"):
        raise InvalidInput(f"{path!r} depends on the drive's current folder: give a path inside {_allowed(folders)}")
    absolute = bool(drive) or text.startswith("/")
    inside = [
        (folder, tuple(parts[len(prefix) :]))
        for folder in folders.data
        for prefix in (_prefixes(folder) if absolute else [[]])
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix)
    ]
    inside = [(folder, names) for folder, names in inside if not _is_of_the_system(folder.joinpath(*names))]
    if not inside:
        raise InvalidInput(f"{path!r} is outside the folders that jobs may read: give a file in {_allowed(folders)}")
    return inside[:1] if absolute else inside


def _is_of_the_system(path: Path) -> bool:
    return any(path.is_relative_to(system) for system in _NEVER)


def _prefixes(folder: Path) -> list[list[str]]:
    """How a data folder may be spelt: as its owner gave it, and with its links resolved."""
    spelt = {os.path.abspath(folder), os.path.realpath(folder)}
    return [[part for part in name.replace(os.sep, "/").split("/") if part] for name in sorted(spelt)]


def _allowed(folders: Folders) -> str:
    return " or ".join(str(folder) for folder in folders.data)


def _refusal(path: str, error: OSError) -> InvalidInput:
    reasons = {
        errno.ELOOP: "is a link, or lies behind one: copy the file itself into the data folder",
        errno.EMLINK: "has a second name elsewhere (hard link): copy it into the data folder",
        errno.EISDIR: "is a folder: name one file in it",
        errno.ENOTDIR: "goes through a link or a file as if it were a folder: give the file's own path",
        errno.EINVAL: "is not an ordinary file: give a file",
        errno.ENXIO: "is not an ordinary file: give a file",
        errno.EACCES: "may not be opened by the worker: change its permissions",
        errno.EPERM: "may not be opened by the worker: change its permissions",
        errno.EROFS: "is on a read-only disk: name a file elsewhere",
        errno.ENAMETOOLONG: "is too long a name: shorten it",
        errno.EEXIST: "is there already and is never overwritten: name another file",
    }
    return InvalidInput(f"{path!r} {reasons.get(error.errno or 0, f'cannot be opened: {error.strerror}')}")


def _similar(root: Path, names: tuple[str, ...]) -> str:
    """Files beside a missing one whose names are like it."""
    with suppress(OSError), _folder(root, names[:-1]) as folder:
        near = get_close_matches(names[-1], folder.names(), n=3)
        if near:
            return f"; did you mean {' or '.join(repr('/'.join((*names[:-1], name))) for name in near)}?"
    return "; paths are taken relative to these folders"


class _Folder:
    """An open folder, by descriptor where the system can, else by its checked path."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path, self.descriptor = path, descriptor

    def at(self, name: str) -> str | Path:
        return name if self.descriptor is not None else self.path / name

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path if self.descriptor is None else self.descriptor))[:5000]

    def open(self, name: str, flags: int) -> int:
        return os.open(self.at(name), flags | _NO_FOLLOW | _BINARY, 0o644, dir_fd=self.descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self.at(name), dir_fd=self.descriptor, follow_symlinks=False)

    def unlink(self, name: str) -> None:
        os.unlink(self.at(name), dir_fd=self.descriptor)

    def link(self, source: str, target: str) -> None:
        descriptor = self.descriptor
        os.link(self.at(source), self.at(target), src_dir_fd=descriptor, dst_dir_fd=descriptor)

    def rename(self, source: str, target: str) -> None:
        os.rename(self.at(source), self.at(target), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)


@contextmanager
def _folder(root: Path, names: tuple[str, ...]) -> Iterator[_Folder]:
    """Walks down from a data folder without following a link."""
    if not BY_DESCRIPTOR:
        yield _Folder(_walk_by_name(root, names), None)
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | _BINARY)
    try:
        for name in names:
            below = os.open(name, os.O_RDONLY | _STEP | _BINARY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield _Folder(root.joinpath(*names), descriptor)
    finally:
        os.close(descriptor)


def _walk_by_name(root: Path, names: tuple[str, ...]) -> Path:
    path = Path(os.path.realpath(root))
    for name in names:
        path = path / name
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) or getattr(found, "st_file_attributes", 0) & 0x400:  # a reparse point
            raise OSError(errno.ELOOP, "is a link")
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, "is not a folder")
    return path


def _open(root: Path, names: tuple[str, ...], flags: int) -> int:
    """Opens an ordinary file with one name; anything else raises OSError before a byte of it is read."""
    with _folder(root, names[:-1]) as folder:
        creates = bool(flags & os.O_CREAT)
        if not creates:
            _check(folder.stat(names[-1]))
        descriptor = folder.open(names[-1], flags)
        try:
            opened = os.fstat(descriptor)
            _check(opened)
            named = folder.stat(names[-1])
            if (named.st_ino, named.st_dev) != (opened.st_ino, opened.st_dev):
                raise OSError(errno.EINVAL, "changed while it was opened")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _check(found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode) or getattr(found, "st_file_attributes", 0) & 0x400:
        raise OSError(errno.ELOOP, "is a link")
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not an ordinary file")
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, "has a second name")


def _reveal(root: Path, partial: tuple[str, ...], names: tuple[str, ...], file: BinaryIO, path: str) -> None:
    """Gives a finished file its name, unless another file has it."""
    with _folder(root, names[:-1]) as folder:
        try:
            folder.link(partial[-1], names[-1])
        except FileExistsError:
            if not _same_bytes(root, names, file):
                raise _refusal(path, OSError(errno.EEXIST, "is there already")) from None
        except OSError:  # a disk without hard links
            _rename(root, partial, names, file, path)


def _rename(root: Path, partial: tuple[str, ...], names: tuple[str, ...], file: BinaryIO, path: str) -> None:
    """The name is claimed first where a rename would overwrite; Windows never does, but renames no open file."""
    try:
        if os.name == "nt":
            file.close()
        else:
            os.close(_open(root, names, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        with _folder(root, names[:-1]) as folder:
            folder.rename(partial[-1], names[-1])
    except OSError as error:
        raise _refusal(path, error) from None


def _same_bytes(root: Path, names: tuple[str, ...], file: BinaryIO) -> bool:
    try:
        with os.fdopen(_open(root, names, os.O_RDONLY), "rb") as other:
            if os.fstat(other.fileno()).st_size != os.fstat(file.fileno()).st_size:
                return False
            file.seek(0)
            return all(ours == theirs for ours, theirs in zip(_chunks(file), _chunks(other), strict=False))
    except OSError:
        return False


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 20), b"")

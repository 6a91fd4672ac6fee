"""What a job may read and write: files under the folders that the worker's owner allowed, and nothing else.

`spelling` reads the text of a path, `beneath` opens what it names, and this module says what was wrong.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

from towpath_worker import beneath
from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput
from towpath_worker.spelling import spelt

#: Similar names are looked for among so many.
_MAX_LISTED = 5_000
#: The folders of `leftovers` for the temporary files of other jobs: a data folder may hold the place of those.
_SCRATCH = re.compile("towpath-[0-9a-f]{12}-")


@dataclass(frozen=True)
class Folders:
    """The folders of a worker: `data` may be read and written by jobs, `models` and `results` are the worker's own."""

    data: tuple[Path, ...]
    models: Path
    results: Path
    #: No job reads or writes below these either, also where they lie in a data folder.
    private: tuple[Path, ...] = ()
    #: The largest table that is read.
    caps: Caps = field(default_factory=Caps)

    def facts(self) -> dict[str, Any]:
        """As JSON, for `of`."""
        return {
            "data": [str(one) for one in self.data],
            "models": str(self.models),
            "results": str(self.results),
            "private": [str(one) for one in self.private],
            "caps": asdict(self.caps),
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Folders:
        """The folders of `facts`."""
        return cls(
            data=tuple(Path(one) for one in facts["data"]),
            models=Path(facts["models"]),
            results=Path(facts["results"]),
            private=tuple(Path(one) for one in facts["private"]),
            caps=Caps(**facts["caps"]),
        )


def open_for_reading(folders: Folders, path: str) -> BinaryIO:
    """Opens an ordinary file under a data folder; relative paths are tried in each data folder in turn.

    Raises InvalidInput for anything else: outside, linked, not a file, not there.
    """
    missing = ""
    for root, names in _candidates(folders, path):
        try:
            return os.fdopen(beneath.open_file(root, names), "rb")
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
        partial = (*names[:-1], f".{names[-1][:50]}.{secrets.token_hex(6)}.partial")
        try:
            descriptor = beneath.open_file(root, partial, beneath.CREATE)
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
                with suppress(OSError), beneath.open_folder(root, names[:-1]) as folder:
                    folder.unlink(partial[-1])
        return
    raise InvalidInput(f"there is no folder for {path!r} in {_allowed(folders)}: make it first, or name another file")


def _candidates(folders: Folders, path: str) -> list[tuple[Path, tuple[str, ...]]]:
    """The data folders in which the path could lie, each with the names from there on."""
    if not folders.data:
        raise InvalidInput("this worker has no data folder: start it with --data-dir FOLDER")
    text = spelt(path, _allowed(folders))
    parts, absolute = list(text.parts), text.absolute
    inside = [
        (folder, tuple(parts[len(prefix) :]))
        for folder in folders.data
        for prefix in (_prefixes(folder) if absolute else [[]])
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix)
    ]
    closed = _closed(folders)
    inside = [(folder, names) for folder, names in inside if not _is_below(folder, names, closed)]
    if not inside:
        raise InvalidInput(f"{path!r} is outside the folders that jobs may read: give a file in {_allowed(folders)}")
    return inside[:1] if absolute else inside


def _closed(folders: Folders) -> list[Path]:
    own = (folders.models, folders.results, *folders.private)
    return [*beneath.SYSTEM, *own, *(Path(os.path.realpath(one)) for one in own)]


def _is_below(folder: Path, names: tuple[str, ...], closed: list[Path]) -> bool:
    if any(_SCRATCH.match(name) for name in names):
        return True
    spellings = (folder.joinpath(*names), Path(os.path.realpath(folder)).joinpath(*names))
    return any(path.is_relative_to(one) for path in spellings for one in closed)


def _prefixes(folder: Path) -> list[list[str]]:
    """How a data folder may be spelt: as its owner gave it, and with its links resolved."""
    spellings = {os.path.abspath(folder), os.path.realpath(folder)}
    return [[part for part in name.replace(os.sep, "/").split("/") if part] for name in sorted(spellings)]


def _allowed(folders: Folders) -> str:
    return " or ".join(str(folder) for folder in folders.data)


def _refusal(path: str, error: OSError) -> InvalidInput:
    reasons = {
        errno.ELOOP: "is a link, or lies behind one: copy the file itself into the data folder",
        errno.EMLINK: "has a second name elsewhere (hard link): copy it into the data folder",
        errno.EXDEV: "belongs to the system or lies outside: give a file in a data folder",
        errno.EAGAIN: "changed while it was opened: try again when nobody writes there",
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
    with suppress(OSError), beneath.open_folder(root, names[:-1]) as folder:
        near = get_close_matches(names[-1], sorted(folder.names())[:_MAX_LISTED], n=3)
        if near:
            return f"; did you mean {' or '.join(repr('/'.join((*names[:-1], name))) for name in near)}?"
    return "; paths are taken relative to these folders"


def _reveal(root: Path, partial: tuple[str, ...], names: tuple[str, ...], file: BinaryIO, path: str) -> None:
    """Gives a finished file its name, unless another file has it."""
    with beneath.open_folder(root, names[:-1]) as folder:
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
            os.close(beneath.open_file(root, names, beneath.CREATE))
        with beneath.open_folder(root, names[:-1]) as folder:
            folder.rename(partial[-1], names[-1])
    except OSError as error:
        raise _refusal(path, error) from None


def _same_bytes(root: Path, names: tuple[str, ...], file: BinaryIO) -> bool:
    try:
        with os.fdopen(beneath.open_file(root, names), "rb") as other:
            if os.fstat(other.fileno()).st_size != os.fstat(file.fileno()).st_size:
                return False
            file.seek(0)
            return all(ours == theirs for ours, theirs in zip(_chunks(file), _chunks(other), strict=False))
    except OSError:
        return False


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 20), b"")

"""What the text of a path may say, before any disk is asked: names below a folder, and nothing else."""

from __future__ import annotations

import ntpath
import os
import re
from dataclasses import dataclass

from towpath_worker.errors import InvalidInput

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|[A-Za-z][A-Za-z0-9+.-]*:)|(file|data|jar|zip):", re.IGNORECASE)
# Windows takes them for devices with any ending, in any folder; superscripts count as digits.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3]) *(\.|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Spelt:
    """A path as names."""

    parts: tuple[str, ...]
    #: Whether it begins at the system's root; its drive is then the first of the parts.
    absolute: bool


def spelt(path: str, allowed: str, *, windows: bool = os.name == "nt") -> Spelt:
    """The names of a path. Raises InvalidInput that names the folders that are `allowed`."""
    if "\0" in path or not path.strip():
        raise InvalidInput("the path is empty or has a NUL in it: give the name of a file")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{path!r} is broken Unicode: rename the file, and give its name as text") from None
    if path.startswith(("\\\\", "//", "/\\", "\\/")):
        raise InvalidInput(f"{path!r} is on a network: give a file in {allowed}")
    if _URL.match(path):
        raise InvalidInput(f"{path!r} is a URL: download it into {allowed} and give the file's name")
    text = path.replace("\\", "/") if windows else path
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    if ".." in parts:
        raise InvalidInput(f"{path!r} has '..' in it: give a path inside {allowed}")
    drive = ntpath.splitdrive(text)[0] if windows else ""
    if windows:
        _check_for_windows(path, text, parts, drive, allowed)
    return Spelt(parts, absolute=bool(drive) or text.startswith("/"))


def _check_for_windows(path: str, text: str, parts: tuple[str, ...], drive: str, allowed: str) -> None:
    names = parts[bool(drive) :]
    if any(":" in name or _DEVICE.match(name) for name in names):
        raise InvalidInput(f"{path!r} names a device or a stream: give an ordinary file")
    if any(name.endswith((".", " ")) for name in names):
        raise InvalidInput(f"{path!r} has a name that ends in a dot or a blank: Windows leaves those away, so must you")
    if drive and not text.startswith(drive + "/"):
        raise InvalidInput(f"{path!r} depends on the drive's current folder: give a path inside {allowed}")

"""The files on this machine: the token, and the keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from towpath import settings
from towpath.doctor.findings import Finding, Wrong
from towpath.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class FoundToken:
    """The token, and where it was found: a file, or None for the environment."""

    secret: str = field(repr=False)
    place: str
    path: Path | None


def token(token_file: Path | None) -> FoundToken:
    """The token as every command finds it. Raises `Wrong`."""
    path = token_file
    try:
        if path is None and (given := os.environ.get(settings.TOKEN_VARIABLE)):
            words = settings.checked(given, f"The token in {settings.TOKEN_VARIABLE}")
            return FoundToken(words, settings.TOKEN_VARIABLE, None)
        if path is None and (named := os.environ.get(settings.TOKEN_FILE_VARIABLE)):
            path = Path(named)
        by_custom = path is None
        path = (path or settings.token_path()).expanduser()
        if by_custom and not path.is_file():
            raise Wrong(
                "token",
                f"There is no token: neither in {settings.TOKEN_VARIABLE} nor in {path}.",
                "Give --token-file FILE, or set TOWPATH_TOKEN. An admin makes one: towpath tokens create",
            )
        return FoundToken(settings.read_token(path), str(path), path)
    except ValueError as error:
        raise Wrong("token", str(error), "Copy the token again into a file of its own.") from None


def modes(found: FoundToken | None, files: TlsFiles) -> Iterator[Finding]:
    """Whether secrets can be read by others on this machine."""
    for check, path in (("token file", found.path if found else None), ("key file", files.key)):
        if path is None or os.name != "posix" or not path.is_file():
            continue
        if path.stat().st_mode & 0o077:
            words = f"Others on this machine can read {path}."
            yield Finding("", check, False, words, f"chmod 600 {path}")
        else:
            yield Finding("", check, True, f"{path} is for nobody else to read.")

"""Where the scheduler is, and which token to show it: explicit argument, then environment, then file."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from towpath.errors import InvalidArgument

ADDRESS_VARIABLE = "TOWPATH_ADDRESS"
TOKEN_VARIABLE = "TOWPATH_TOKEN"
TOKEN_FILE_VARIABLE = "TOWPATH_TOKEN_FILE"

DEFAULT_PORT = 7070
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
# Between several addresses in a sentence.
OR = " or "
# What stands in no name of a host: a list or a URL was meant.
NO_HOST = frozenset(" ,;/@?#[]")


def address(explicit: str | None = None) -> str:
    """The scheduler's `host:port`: explicit, or TOWPATH_ADDRESS, or 127.0.0.1:7070. A bare host gets port 7070.

    Several, with commas between, are the replicas of one scheduler.
    """
    given = (explicit or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS).strip()
    if given.startswith("unix:"):
        return given
    parts = [part.strip() for part in given.split(",")]
    found: list[str] = []
    for number, part in enumerate(parts, 1):
        # Said only where there is a choice.
        place = f" It is part {number} of {given!r}." if len(parts) > 1 else ""
        one = _one(part, place)
        if one in found:
            raise InvalidArgument(f"{one!r} is there twice.{place} Name each scheduler once.")
        found.append(one)
    return ",".join(found)


def addresses(joined: str) -> tuple[str, ...]:
    """Each of the addresses in what `address` gave."""
    return (joined,) if joined.startswith("unix:") else tuple(joined.split(","))


def spoken(joined: str) -> str:
    """The addresses as sentences name them."""
    return OR.join(addresses(joined))


def _one(given: str, place: str) -> str:
    if place and not given:
        raise InvalidArgument(f"An address is empty.{place} Write it as HOST:PORT, or take its comma away.")
    if "://" in given:
        raise InvalidArgument(f"{given!r} is not an address. Write it as HOST:PORT, without a scheme.{place}")
    if place and given.startswith("unix:"):
        raise InvalidArgument(f"{given!r} is a socket of this machine: give it alone, or HOST:PORT.{place}")
    try:
        host, port = split(given)
    except InvalidArgument as error:
        raise InvalidArgument(f"{error.message}{place}") from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(target: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`."""
    if target.startswith("["):
        host, closed, rest = target[1:].partition("]")
        # Without its other bracket it is nothing.
        host, port = host if closed else "", rest.removeprefix(":")
    elif target.count(":") > 1:
        host, port = target, ""
    else:
        host, _, port = target.partition(":")
    if not _is_host(host) or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise InvalidArgument(f"{target!r} is not an address. Write it as HOST:PORT, for example {DEFAULT_ADDRESS}.")
    return host, int(port or DEFAULT_PORT)


def _is_host(text: str) -> bool:
    if ":" in text:
        return is_ip(text)
    return bool(text) and text.isprintable() and not NO_HOST & set(text)


def is_ip(host: str) -> bool:
    """Whether it is an address by number, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(target: str) -> bool:
    """Whether `host:port` never leaves this machine."""
    if target.startswith("unix:"):
        return True
    host, _ = split(target)
    if host.lower() != "localhost":
        return is_ip(host) and ipaddress.ip_address(host).is_loopback
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
    except OSError:
        # Nobody is there to be told anything.
        return True
    # A name that stands for this machine by custom, not by law.
    return all(is_ip(one) and ipaddress.ip_address(one).is_loopback for one in found)


def token(explicit: str | None = None) -> str | None:
    """The token: explicit, TOWPATH_TOKEN, the file named by TOWPATH_TOKEN_FILE, or the one in the user's config."""
    if given := explicit or os.environ.get(TOKEN_VARIABLE):
        return checked(given, "The token given, or in TOWPATH_TOKEN,")
    if named := os.environ.get(TOKEN_FILE_VARIABLE):
        return read_token(Path(named).expanduser())
    path = token_path()
    return read_token(path) if path.is_file() else None


def token_path() -> Path:
    """The file in the user's config folder to which a scheduler writes the first admin token."""
    import platformdirs

    return platformdirs.user_config_path("towpath") / "token"


def read_token(path: Path) -> str:
    """The token in a file, without white space around it."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidArgument(
            f"Cannot read the token in {path}: {why}. Check --token-file or {TOKEN_FILE_VARIABLE}."
        ) from None
    if not text:
        raise InvalidArgument(f"{path} holds no token. Write one into it, or set {TOKEN_VARIABLE}.")
    return checked(text, f"The token in {path}")


def checked(given: str, name: str) -> str:
    """A token that fits into a header; `name` is what the error calls it, which never repeats it."""
    text = given.strip()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise InvalidArgument(f"{name} has blanks or other characters that no token has. Copy it again.")
    return text

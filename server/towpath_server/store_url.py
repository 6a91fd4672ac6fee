"""What a store's URL says: which kind of store, where it lies, and how it may be shown, which is without a password."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

SQLITE = "sqlite:///"
MEMORY = "memory:"
_POSTGRES = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
# Options of an address that are secrets.
_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret"})
FORMS = f"{SQLITE}PATH, postgresql://USER@HOST/DATABASE or {MEMORY}"
ELSEWHERE = "set it in TOWPATH_SERVER_STORE or PGPASSWORD, or use a password file (~/.pgpass)"


def is_postgres(url: str) -> bool:
    """Whether it is for a PostgreSQL database, rightly written or not."""
    return _POSTGRES.match(url) is not None


def path_of(url: str) -> Path | None:
    """The SQLite file; None where it is none."""
    return Path(url.removeprefix(SQLITE)).expanduser() if url.startswith(SQLITE) else None


def check(url: str) -> None:
    """Raises ValueError, which never shows what may be a password, where no store can be found by this URL."""
    if is_postgres(url):
        _check_postgres(url)
    elif url != MEMORY and not (url.startswith(SQLITE) and len(url) > len(SQLITE)):
        raise ValueError(f"give {FORMS}{_hint(url)}")


def shown(url: str) -> str:
    """The URL of a store for people: as it was given, without what is secret."""
    if not is_postgres(url):
        return url
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    before, at, after = rest.partition("@")
    place = f"{before.partition(':')[0]}@{after}" if at else before
    options = [one for one in query.split("&") if one and unquote(one.partition("=")[0]) not in _SECRETS]
    return f"{scheme}://{place}{'?' if options else ''}{'&'.join(options)}"


def holds_password(word: str) -> bool:
    """Whether a word of a command line has a password in it, in a URL of PostgreSQL's."""
    found = _POSTGRES.search(word)
    if found is None:
        return False
    userinfo, _, _, options = _parts(word[found.start() :])
    return ":" in userinfo or not _SECRETS.isdisjoint(options)


def _check_postgres(url: str) -> None:
    _, hosts, database, options = _parts(url)
    ports = [port for host in hosts.split(",") if (port := re.sub(r"^\[.*?\]", "", host).partition(":")[2])]
    query = url.partition("?")[2]
    if "@" in hosts + database + "".join(options.values()) or not all(map(_is_port, ports)):
        raise ValueError(
            "the store's address cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE with each special "
            "character of the password as %XX, or leave the password out and set PGPASSWORD or use ~/.pgpass"
        )
    if query and not all(part.count("=") == 1 for part in query.split("&")):
        raise ValueError(
            "options of a PostgreSQL address are written ?NAME=VALUE&NAME=VALUE, with %3D for a = inside of a value"
        )
    if not (database or options.get("dbname")):
        raise ValueError("the address names no database: give postgresql://USER@HOST/DATABASE (make one with createdb)")


def _parts(url: str) -> tuple[str, str, str, dict[str, str]]:
    """User with password, hosts with ports, database, options."""
    rest = _POSTGRES.sub("", url, count=1)
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    before, at, after = authority.partition("@")
    userinfo, hosts = (before, after) if at else ("", before)
    return userinfo, unquote(hosts), unquote(database), dict(parse_qsl(query, keep_blank_values=True))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 65535


def _hint(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    # What is before the colon is no secret where it looks like a scheme.
    if colon and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,30}", scheme):
        if scheme.lower() == "sqlite":
            return " (three slashes, and a fourth for a path from the root)"
        return f", not {scheme}:..."
    return ""

"""Where a database is: its address as it is used, and as it may be shown, which is without the password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import conninfo

# A password with a character that means something in an address makes another host or port of its rest, and what libpq
# says of those would show it.
WRONG = (
    "The store's address cannot be read. Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE with each special "
    "character of the password as %XX, or leave the password out and set PGPASSWORD or use a password file."
)
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}


@dataclass(frozen=True, slots=True)
class Address:
    """What libpq is given. Two are the same connection only by accident: they are never compared."""

    shown: str
    _given: dict[str, str] = field(repr=False, compare=False)

    def with_settings(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The parameters of a connection with these settings; those that the user gave go before."""
        ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return {**_DEFAULTS, **self._given, "options": f"{ours} {self._given.get('options', '')}".strip()}

    def hide(self, text: str) -> str:
        """A text on one line, in which the password is not."""
        secret = self._given.get("password")
        return " ".join((text.replace(secret, "***") if secret else text).split())


def read(url: str, program: str = "towpath") -> Address:
    """The address in a `postgresql://` URL. Raises `ValueError`, which shows nothing of it.

    `program` is what the server is told of who calls.
    """
    try:
        given = {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        raise ValueError(WRONG) from None
    hosts, ports = given.get("host", ""), given.get("port", "")
    if "@" in hosts or "@" in given.get("dbname", "") or not all(_is_port(port) for port in ports.split(",")):
        raise ValueError(WRONG)
    given["client_encoding"] = "UTF8"
    given.setdefault("application_name", program)
    if "," in hosts:
        given.setdefault("target_session_attrs", "read-write")
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{ports}" if ports else ""
    return Address(f"postgresql://{user}{hosts}{port}/{given.get('dbname', '')}", given)


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) <= len("65535"))

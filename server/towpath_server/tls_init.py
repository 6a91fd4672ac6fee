"""`towpath-server tls-init`: a private CA, and certificates of it, for a network without one."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from towpath_server import certify
from towpath_server.certify import Pair
from towpath_server.settings import ServerSettings, config_folder

CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Where no packet is ever sent: to connect there says which address of this machine would be used.
ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class TlsInitRefused(Exception):
    """Files in the way, or that cannot be used. The message says what to do."""


class TlsInitSettings(ServerSettings):
    """Make a private CA and a certificate for this scheduler; again: renew the certificates, by the same CA."""

    model_config = SettingsConfigDict(cli_prog_name="towpath-server tls-init")

    dir: Path = Field(default=config_folder() / "tls", description="the folder for the files")
    name: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="a name or an address by which the scheduler is called; again for more. Default: those of the "
        "certificate that is renewed, else all that this machine knows of itself",
    )
    client: Annotated[list[str], NoDecode] = Field(
        default=[], description="make a certificate for a client or worker of this name, too; again for more"
    )
    days: int = Field(default=825, ge=1, le=825, description="how long the certificates are valid")
    force: bool = Field(default=False, description="make a new CA, and write over files that another one has signed")

    @field_validator("name", "client", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        parts = given if isinstance(given, list) else [given]
        return [word.strip() for part in parts for word in str(part).split(",") if word.strip()]

    @field_validator("name")
    @classmethod
    def _names(cls, given: list[str]) -> list[str]:
        for one in given:
            if not certify.is_name(one):
                raise ValueError(f"{one!r} is no name or address of a machine: give it without scheme and port")
        return given

    @field_validator("client")
    @classmethod
    def _clients(cls, given: list[str]) -> list[str]:
        for one in given:
            if not CLIENT.fullmatch(one):
                raise ValueError(f"{one!r} is no name for a file: take letters, digits, `.`, `_` and `-`")
        return given


@dataclass(slots=True)
class _Folder:
    """The files, and what was said of them."""

    path: Path
    force: bool
    said: list[str] = field(default_factory=list)

    def ca(self) -> Pair:
        """The CA that is here, or a new one."""
        cert, key = self.path / "ca.pem", self.path / "ca-key.pem"
        if not self.force and cert.exists() and key.exists():
            found = self._read(cert, key)
            if not certify.is_good_ca(found):
                raise TlsInitRefused(f"{cert} is over, or no CA of its key: --force makes a new one for all")
            self.said.append(f"  {cert}  (kept) clients and workers trust it; no secret")
            return found
        for one in (cert, key) if not self.force else ():
            if one.exists():
                raise TlsInitRefused(
                    f"{one} is there without the other file of its pair: choose another --dir, or --force"
                )
        if not self.force and (foreign := sorted(self.path.glob("*.pem"))):
            raise TlsInitRefused(f"{foreign[0]} is of another CA: choose another --dir, or --force")
        made = certify.new_ca()
        self._write(made, cert, key)
        self.said.append(f"  {cert}  clients and workers trust it; no secret")
        self.said.append(f"  {key}  signs new certificates: keep it to yourself")
        return made

    def names_before(self, ca: Pair) -> list[str]:
        """By which the certificate that is here calls the scheduler."""
        cert = self.path / "server.pem"
        return certify.names_of(cert.read_bytes()) if cert.exists() and certify.is_signed(cert.read_bytes(), ca) else []

    def clients(self) -> list[str]:
        """Those that have a certificate."""
        return sorted(
            one.stem.removeprefix("client-") for one in self.path.glob("client-*.pem") if "-key." not in one.name
        )

    def leaf(self, stem: str, ca: Pair, made: Pair, words: str) -> None:
        """Put a certificate and its key here, in the place of older ones of this CA."""
        cert, key = self.path / f"{stem}.pem", self.path / f"{stem}-key.pem"
        renewed = cert.exists()
        if renewed and not self.force and not certify.is_signed(cert.read_bytes(), ca):
            raise TlsInitRefused(f"{cert} is of another CA: choose another --dir, or --force to write over it")
        if key.exists() and not renewed and not self.force:
            raise TlsInitRefused(f"{key} is there without its certificate: choose another --dir, or --force")
        self._write(made, cert, key)
        self.said.append(f"  {cert}, {key.name}  {'(renewed) ' if renewed else ''}{words}")

    def _read(self, cert: Path, key: Path) -> Pair:
        try:
            return Pair.read(cert.read_bytes(), key.read_bytes())
        except ValueError as error:
            raise TlsInitRefused(f"{cert} and {key.name} cannot be read: --force makes new ones for all") from error

    def _write(self, made: Pair, cert: Path, key: Path) -> None:
        # The key first: a server that looks in between goes on with what it has.
        _replace(key, made.key_pem(), 0o600)
        _replace(cert, made.cert_pem(), 0o644)


def tls_init(settings: TlsInitSettings) -> str:
    """Make the files; what to say. Raises `TlsInitRefused`."""
    folder = _Folder(settings.dir.expanduser().resolve(), settings.force)
    try:
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca = folder.ca()
        names = settings.name or folder.names_before(ca) or guessed_names()
        server = certify.new_leaf(ca, names[0], settings.days, names=names)
        folder.leaf("server", ca, server, f"for {', '.join(names)}; until {server.end:%Y-%m-%d}")
        for one in settings.client:
            made = certify.new_leaf(ca, one, settings.days)
            folder.leaf(f"client-{one}", ca, made, f"for the client {one}; until {made.end:%Y-%m-%d}")
    except OSError as error:
        raise TlsInitRefused(f"cannot write {error.filename}: {error.strerror}. Give another --dir") from error
    return "\n".join([*folder.said, *_next(folder.path, names, settings.client or folder.clients())])


def guessed_names() -> list[str]:
    """What this machine is called, by itself and by others, as far as it knows; without a look at the network."""
    host = socket.gethostname()
    found = [host, socket.getfqdn(), "localhost", "127.0.0.1", "::1"]
    # It may not know its own name.
    with suppress(OSError):
        found += [str(one[4][0]) for one in socket.getaddrinfo(host, None)]
    for family, there in ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            found.append(probe.getsockname()[0])
    return list(dict.fromkeys(one for one in found if certify.is_name(one)))


def _next(folder: Path, names: list[str], clients: list[str]) -> list[str]:
    trust = f"--tls-client-ca {folder / 'ca.pem'} " if clients else ""
    shown = f" --tls-cert client-{clients[0]}.pem --tls-key client-{clients[0]}-key.pem" if clients else ""
    address = f"[{names[0]}]:7070" if ":" in names[0] else f"{names[0]}:7070"
    return [
        "Start the scheduler (one that runs with these files takes renewed ones by itself):",
        f"  towpath-server --listen 0.0.0.0:7070 --tls-cert {folder / 'server.pem'} "
        f"--tls-key {folder / 'server-key.pem'} {trust}".rstrip(),
        f"Copy ca.pem{' and the files of each client' if clients else ''} to the other machines, and there:",
        f"  towpath doctor --server {address} --tls-ca ca.pem{shown}",
        f"  towpath-worker join {address} --tls-ca ca.pem{shown}",
    ]


def _replace(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise

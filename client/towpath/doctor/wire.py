"""The way to a scheduler, below gRPC: its name, its port, and whether it speaks TLS or plain text there."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from towpath import settings
from towpath.doctor.findings import Wrong

# Seconds for each step.
PATIENCE = 5.0
# How a client begins (RFC 9113, 3.4), with settings that change nothing; the server answers with its own.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HEADER = 9
SETTINGS = 4

START = "Start the scheduler there (towpath-server), or name another one: --server HOST:PORT"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to: what `socket.connect` takes, and how errors call it."""

    host: str
    family: int
    where: tuple[str, int] | str

    def connect(self) -> socket.socket:
        """A connection. Raises OSError."""
        made = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            made.settimeout(PATIENCE)
            made.connect(self.where)
        except BaseException:
            made.close()
            raise
        return made


def endpoints(address: str) -> list[Endpoint]:
    """What the name stands for. Raises `Wrong`."""
    if address.startswith("unix:"):
        return [Endpoint("localhost", socket.AF_UNIX, address.removeprefix("unix:").removeprefix("//"))]
    host, port = settings.split(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise Wrong(
                "name", f"The name service does not answer, asked for {host}.", "Is this machine in a network?"
            ) from None
        raise Wrong(
            "name", f"There is no machine called {host}.", "Check the name in --server or TOWPATH_ADDRESS."
        ) from None
    return [Endpoint(host, family, (str(where[0]), int(where[1]))) for family, _, _, _, where in found]


def reach(found: Sequence[Endpoint]) -> Endpoint:
    """The first where somebody listens. Raises `Wrong`."""
    wrong = None
    for one in found:
        try:
            one.connect().close()
        except OSError as error:
            # The first address is the one that gRPC, too, would try first.
            wrong = wrong or _unreachable(one, error)
        else:
            return one
    assert wrong is not None
    raise wrong


def speaks_plain(endpoint: Endpoint) -> bytes:
    """The first bytes that it answers to a greeting in plain text; none where it hangs up or keeps silent."""
    try:
        with endpoint.connect() as opened:
            opened.sendall(GREETING)
            return opened.recv(64)
    except OSError:
        return b""


def speaks_tls(endpoint: Endpoint) -> bool:
    """Whether it answers a TLS handshake, with whatever certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is told to it but this: to know whether it speaks TLS at all.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with endpoint.connect() as opened, context.wrap_socket(opened, server_hostname=endpoint.host):
            return True
    except OSError:
        return False


def is_greeting(answer: bytes) -> bool:
    """Whether these bytes are how an HTTP/2 server begins."""
    return len(answer) >= HEADER and answer[3] == SETTINGS and int.from_bytes(answer[5:HEADER], "big") == 0


def check_plain(endpoint: Endpoint) -> str:
    """What to say of a server that speaks plain HTTP/2. Raises `Wrong`."""
    answer = speaks_plain(endpoint)
    if is_greeting(answer):
        return "It speaks plain text."
    if speaks_tls(endpoint):
        raise Wrong(
            "TLS",
            "It speaks TLS, and this side plain text.",
            "Leave out --insecure, and give the CA of its certificate: --tls-ca FILE",
        )
    raise stranger(answer)


def stranger(answer: bytes) -> Wrong:
    """What to say of a server that speaks neither TLS nor HTTP/2."""
    words = "It takes connections and then hangs up, or says nothing."
    if answer:
        words = "What answers there is no Towpath scheduler."
    return Wrong("protocol", words, "Is it the right port? Towpath's is 7070 unless somebody chose another.")


def _unreachable(endpoint: Endpoint, error: OSError) -> Wrong:
    where = endpoint.where if isinstance(endpoint.where, str) else "{} port {}".format(*endpoint.where)
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return Wrong(
            "connection",
            f"{where} does not answer within {PATIENCE:.0f} s.",
            "Is the machine up, and does a firewall let this port through?",
        )
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return Wrong("connection", f"Nobody listens at {where}.", START)
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL):
        return Wrong(
            "connection",
            f"There is no way from here to {where} ({error.strerror}).",
            "Is this machine in the same network, or its VPN up?",
        )
    return Wrong("connection", f"Cannot connect to {where}: {error.strerror or error}.", START)

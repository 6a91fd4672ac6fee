"""The certificate files of the server: checked at the start, and taken anew when they change, for new connections."""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from towpath_server.log import Logger

log = Logger(__name__)

# Time to renew a certificate before clients refuse it.
SOON = timedelta(days=30)

Stamp = tuple[tuple[int, int, int], ...]


class TlsRefused(Exception):
    """A certificate file that cannot be used. The message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain and key, and the CA whose clients alone may connect, if only they may."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Each of them."""
        return (self.cert, self.key) if self.client_ca is None else (self.cert, self.key, self.client_ca)

    def stamp(self) -> Stamp:
        """What is another one once a file was written anew. Raises OSError."""
        found = [path.stat() for path in self.all]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def load(self) -> Loaded:
        """Read and check them. Raises `TlsRefused`."""
        try:
            stamp, contents = self.stamp(), self._contents()
            self._check()
            if self._contents() != contents:
                raise TlsRefused(f"{self.cert} and {self.key} are being written")
        except OSError as error:
            raise TlsRefused(
                f"cannot read {error.filename}: {error.strerror}. Look at --tls-cert, --tls-key and --tls-client-ca"
            ) from error
        cert, key, *client_ca = contents
        return Loaded(stamp, key, cert, client_ca[0] if client_ca else None)

    def warnings(self) -> list[str]:
        """What may be used, but should not stay so."""
        words = []
        if os.name == "posix" and self.key.stat().st_mode & 0o077:
            words.append(f"{self.key} can be read by others on this machine: chmod 600 {self.key}")
        end = _expires(self.cert.read_bytes())
        if end is not None and end - datetime.now(UTC) < SOON:
            verb = "has expired" if end <= datetime.now(UTC) else "expires"
            words.append(f"the certificate in {self.cert} {verb} on {end:%Y-%m-%d}: put a new one in its place")
        return words

    def _contents(self) -> list[bytes]:
        return [path.read_bytes() for path in self.all]

    def _check(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        asked: list[bool] = []

        def passphrase() -> str:
            asked.append(True)
            return ""

        try:
            context.load_cert_chain(self.cert, self.key, passphrase)
        except ssl.SSLError as error:
            if asked:
                raise TlsRefused(f"the key in {self.key} has a passphrase: give one without (openssl pkey)") from error
            raise TlsRefused(
                f"{self.cert} and {self.key} are no certificate and its key in PEM. Look at --tls-cert and --tls-key"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError as error:
                raise TlsRefused(f"{self.client_ca} holds no certificate in PEM. Look at --tls-client-ca") from error


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files held that were sound."""

    stamp: Stamp
    key: bytes = field(repr=False)
    chain: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """For grpc."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.client_ca)


class Certificates:
    """The files as they are now, or as they were when they were last sound. Safe among threads."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._loaded = files.load()
        # The last ones that were refused: said once.
        self._refused: object = None
        _say(files.warnings())

    def credentials(self) -> grpc.ServerCredentials:
        """For a server; with a CA for clients, those without a certificate of it are not let in."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded.configuration(), self._renewed, self._files.client_ca is not None
        )

    # Any, as the stubs of grpc forget None.
    def _renewed(self) -> Any:
        # grpc asks at each new connection, in a thread of its own; None: nothing new.
        with self._lock:
            stamp: Stamp | None = None
            try:
                stamp = self._files.stamp()
                if stamp == self._loaded.stamp:
                    return None
                loaded = self._files.load()
                _say(self._files.warnings())
            except (TlsRefused, OSError) as error:
                if (stamp, str(error)) != self._refused:
                    self._refused = stamp, str(error)
                    log.error("tls", words=f"new certificate files cannot be used, the old ones go on: {error}")
                return None
            self._loaded, self._refused = loaded, None
            log.info("tls", words=f"new connections get the new certificate in {self._files.cert}")
            return loaded.configuration()


def _expires(chain: bytes) -> datetime | None:
    # Whoever serves without TLS does not wait for it.
    from cryptography import x509

    try:
        return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(chain))
    except ValueError:
        # grpc is less strict about what stands in a certificate.
        return None


def _say(words: list[str]) -> None:
    for one in words:
        log.warning("tls", words=one)

"""The certificate files of a client: read at its first connection, and again where they have changed, for the next."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from towpath import settings
from towpath.errors import InvalidArgument

log = logging.getLogger(__name__)

CA_VARIABLE = "TOWPATH_TLS_CA"
CERT_VARIABLE = "TOWPATH_TLS_CERT"
KEY_VARIABLE = "TOWPATH_TLS_KEY"

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: whom to trust in place of the system's authorities, and the client's own certificate and key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("Give tls_cert and tls_key together: a certificate is of no use without its key.")

    @staticmethod
    def of(
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
        *,
        insecure: bool = False,
    ) -> TlsFiles:
        """Each as it is given, else as TOWPATH_TLS_CA, TOWPATH_TLS_CERT and TOWPATH_TLS_KEY have it.

        The environment is not looked at where plain text is asked for, nor for half of a pair.
        """
        if not insecure:
            ca = ca or os.environ.get(CA_VARIABLE)
            if not cert and not key:
                cert, key = os.environ.get(CERT_VARIABLE), os.environ.get(KEY_VARIABLE)
        return TlsFiles(*(Path(one).expanduser() if one else None for one in (ca, cert, key)))

    @property
    def all(self) -> tuple[Path, ...]:
        """Those that were given."""
        return tuple(one for one in (self.ca, self.cert, self.key) if one is not None)

    def stamp(self) -> Stamp:
        """What is another one once a file was written anew."""
        return tuple(_stamp(one) for one in self.all)

    def read(self) -> grpc.ChannelCredentials:
        """What a channel needs of them. Raises InvalidArgument that says which file is wrong."""
        contents = {one: _read(one) for one in self.all}
        self._check()
        if any(_read(one) != content for one, content in contents.items()):
            raise InvalidArgument("The certificate files are being written. Try again.")
        ca, cert, key = (contents.get(one) if one is not None else None for one in (self.ca, self.cert, self.key))
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)

    def _check(self) -> None:
        # Who goes without TLS does not wait for it.
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError:
                raise InvalidArgument(f"{self.ca} holds no certificate in PEM. Check --tls-ca or tls_ca.") from None
        if self.cert is not None and self.key is not None:
            asked: list[bool] = []

            def passphrase() -> str:
                asked.append(True)
                return ""

            try:
                context.load_cert_chain(self.cert, self.key, passphrase)
            except ssl.SSLError:
                if asked:
                    raise InvalidArgument(f"The key in {self.key} has a passphrase. Give one without.") from None
                raise InvalidArgument(
                    f"{self.cert} and {self.key} are no certificate and its key in PEM. Check tls_cert and tls_key."
                ) from None


@dataclass(slots=True)
class TlsSource:
    """Credentials as the files are now, or as they were when they were last sound. Safe among threads."""

    files: TlsFiles
    insecure: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stamp: Stamp | None = None
    # The last ones that could not be used: said once.
    _refused: Stamp | None = None
    _made: grpc.ChannelCredentials | None = None

    def __post_init__(self) -> None:
        if self.insecure and self.files.all:
            raise InvalidArgument("Give insecure, or files for TLS (tls_ca, tls_cert, tls_key), not both.")

    def credentials(self, address: str) -> grpc.ChannelCredentials | None:
        """For a channel to this address; None where plain text is allowed."""
        if not self.files.all:
            if self.insecure or settings.is_loopback(address):
                return None
            return grpc.ssl_channel_credentials()
        with self._lock:
            stamp = self.files.stamp()
            if self._made is None or stamp != self._stamp:
                try:
                    self._made = self.files.read()
                    self._stamp = stamp
                except InvalidArgument as error:
                    if self._made is None:
                        raise
                    if stamp != self._refused:
                        self._refused = stamp
                        log.warning("The TLS files of before are used on: %s", error.message)
            return self._made

    @property
    def is_stale(self) -> bool:
        """Whether the files are others than those that were read last."""
        return self._made is not None and self.files.stamp() != self._stamp


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"Cannot read the certificate or key in {path}: {error.strerror}.") from None

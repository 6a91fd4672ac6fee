"""Certificates of test CAs: good ones, and such as have run out or are for something else."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
PURPOSES = {True: ExtendedKeyUsageOID.SERVER_AUTH, False: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Files:
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path

    def put(self, cert: Path, key: Path) -> None:
        """Write both to where a program looks for them; the key is for nobody else."""
        key.write_bytes(self.key.read_bytes())
        key.chmod(0o600)
        cert.write_bytes(self.cert.read_bytes())

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Key and certificate, as `make_server` takes them."""
        return self.key.read_bytes(), self.cert.read_bytes()


class Authority:
    """A CA whose files lie in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made = 0
        builder = self._builder(name, self._key, datetime.now(UTC) - DAY, datetime.now(UTC) + 400 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.cert = folder / f"{name}.pem"
        self.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def server(self, *hosts: str, starts: timedelta = -DAY, ends: timedelta = 90 * DAY) -> Files:
        """For a server of these names and addresses; valid from and until so long after now."""
        return self._leaf(hosts or ("127.0.0.1",), for_server=True, starts=starts, ends=ends)

    def client(self, *, ends: timedelta = DAY) -> Files:
        """For a client."""
        return self._leaf((), for_server=False, starts=-2 * DAY, ends=ends)

    def _leaf(self, hosts: tuple[str, ...], *, for_server: bool, starts: timedelta, ends: timedelta) -> Files:
        key = ec.generate_private_key(ec.SECP256R1())
        self._made += 1
        stem = f"{self._name}-{self._made}"
        now = datetime.now(UTC)
        builder = self._builder(stem, key, now + starts, now + ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([PURPOSES[for_server]]), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, hosts))), critical=False)
        files = Files(self._folder / f"{stem}.pem", self._folder / f"{stem}-key.pem")
        files.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files.key.chmod(0o600)
        return files

    def _builder(
        self, name: str, key: ec.EllipticCurvePrivateKey, starts: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            x509.random_serial_number(),
            starts,
            ends,
        )


def trusting(ca: Path, shown: Files | None = None) -> grpc.ChannelCredentials:
    """What a client that trusts this CA, and shows this certificate, gives to grpc."""
    key, cert = (None, None) if shown is None else shown.pair
    return grpc.ssl_channel_credentials(ca.read_bytes(), key, cert)


def certify(folder: Path) -> None:
    """cert.pem and key.pem of this machine in `folder`; clients trust cert.pem."""
    authority = Authority(folder / "authority")
    made = authority.server("127.0.0.1")
    made.put(folder / "cert.pem", folder / "key.pem")
    with (folder / "cert.pem").open("ab") as file:
        file.write(authority.cert.read_bytes())


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

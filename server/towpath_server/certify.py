"""Keys and certificates: a CA of one's own, and what it signs. EC P-256, as every TLS library of today takes it."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
# The clocks of a home network differ.
LEEWAY = timedelta(hours=1)
NAME = re.compile(r"(?:\*\.)?(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @staticmethod
    def read(cert: bytes, key: bytes) -> Pair:
        """From PEM. Raises ValueError."""
        try:
            found = serialization.load_pem_private_key(key, None)
        except TypeError as error:
            raise ValueError("the key has a passphrase") from error
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise ValueError("no EC key")
        return Pair(x509.load_pem_x509_certificate(cert), found)

    @property
    def end(self) -> datetime:
        """Until when it is valid."""
        return self.cert.not_valid_after_utc

    def cert_pem(self) -> bytes:
        """The certificate."""
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The key, without a passphrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def new_ca() -> Pair:
    """A CA for ten years that can sign certificates, and no other CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Its own name, so that an old and a new one may lie in one file.
    name = _named(f"Towpath CA {secrets.token_hex(4)}")
    builder = _begun(key, name, name, datetime.now(UTC) + timedelta(days=CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def new_leaf(ca: Pair, called: str, days: int, *, names: Sequence[str] = ()) -> Pair:
    """A certificate for a server of these names and addresses; without any, for a client. Never for both."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(datetime.now(UTC) + timedelta(days=days), ca.end)
    builder = _begun(key, _named(called), ca.cert.subject, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def is_good_ca(pair: Pair) -> bool:
    """Whether it can still sign, with this key."""
    same = pair.cert.public_key() == pair.key.public_key()
    return same and pair.end > datetime.now(UTC) and is_signed(pair.cert_pem(), pair)


def is_signed(cert: bytes, ca: Pair) -> bool:
    """Whether the CA has signed the certificate (PEM)."""
    try:
        x509.load_pem_x509_certificate(cert).verify_directly_issued_by(ca.cert)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def names_of(cert: bytes) -> list[str]:
    """The names and addresses in a certificate (PEM)."""
    try:
        found = x509.load_pem_x509_certificate(cert).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in found.value]


def is_name(text: str) -> bool:
    """Whether it can stand in a certificate: the name of a host, or an address."""
    if "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and NAME.fullmatch(text) is not None
    return True


def _begun(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC) - LEEWAY).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _named(called: str) -> x509.Name:
    # RFC 5280 has room for 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called[:64])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )

"""The TLS of a scheduler: whether its certificate convinces, and whether ours does."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from towpath.doctor import wire
from towpath.doctor.findings import Wrong
from towpath.doctor.wire import Endpoint
from towpath.settings import is_ip
from towpath.tls import TlsFiles

# OpenSSL's X509_V_ERR_*.
NOT_YET_VALID, EXPIRED, OTHER_NAMES = 9, 10, (62, 64)
SELF_SIGNED, PURPOSE = 18, 26
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME: to see when a certificate that has expired did so.
WHENEVER = 0x200000
SOON = timedelta(days=30)


def check_tls(endpoint: Endpoint, files: TlsFiles) -> str:
    """What to say of a server whose certificate convinces, and that takes ours. Raises `Wrong`."""
    try:
        found, answer = _shake(endpoint, _context(files))
    except ssl.SSLCertVerificationError as error:
        raise _unconvincing(error, endpoint, files) from None
    except OSError:
        answer = wire.speaks_plain(endpoint)
        if wire.is_greeting(answer):
            raise Wrong(
                "TLS",
                "It speaks plain text, and this side TLS.",
                "Start it with --tls-cert and --tls-key (towpath-server tls-init makes them). "
                "In a network that you trust: --insecure",
            ) from None
        if wire.speaks_tls(endpoint):
            raise _unwelcome(files) from None
        raise wire.stranger(answer) from None
    if not answer:
        # With TLS 1.3 it judges our certificate only after we have judged its.
        raise _unwelcome(files)
    if not wire.is_greeting(answer):
        raise wire.stranger(answer)
    end = _moment(found["notAfter"])
    words = f"Its certificate is good for {', '.join(_names(found))}, until {end:%Y-%m-%d}"
    return f"{words}: renew it soon." if end - datetime.now(UTC) < SOON else f"{words}."


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if files.ca is not None:
        context.load_verify_locations(files.ca)
    else:
        context.load_default_certs()
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


def _shake(endpoint: Endpoint, context: ssl.SSLContext) -> tuple[Mapping[str, Any], bytes]:
    """Its certificate, and the first bytes that it says; none where it hangs up after the handshake."""
    with endpoint.connect() as opened, context.wrap_socket(opened, server_hostname=endpoint.host) as secured:
        found = secured.getpeercert() or {}
        try:
            secured.sendall(wire.GREETING)
            return found, secured.recv(64)
        except OSError:
            return found, b""


def _unconvincing(error: ssl.SSLCertVerificationError, endpoint: Endpoint, files: TlsFiles) -> Wrong:
    match error.verify_code:
        case code if code in (EXPIRED, NOT_YET_VALID):
            return _out_of_time(endpoint, files)
        case code if code in OTHER_NAMES:
            names = ", ".join(_names(_seen(endpoint, files))) or "no name"
            return Wrong(
                "certificate",
                f"Its certificate is for {names}, not for {endpoint.host}.",
                "Call it by one of these names, or make a certificate with this one too: "
                f"towpath-server tls-init --name {endpoint.host}",
            )
        case code if code == PURPOSE:
            words = "Its certificate is not one for a server."
            return Wrong("certificate", words, "Is it a client's? Start it with the certificate of the server.")
    if files.ca is None:
        return Wrong(
            "certificate",
            "Its certificate is of a CA that this machine does not know.",
            "Give the CA's certificate: --tls-ca FILE, or TOWPATH_TLS_CA. tls-init has written it as ca.pem",
        )
    return Wrong(
        "certificate",
        f"Its certificate is of another CA than {files.ca}.",
        "Copy ca.pem from the scheduler's machine again. If nobody has made a new CA there, something else answers.",
    )


def _out_of_time(endpoint: Endpoint, files: TlsFiles) -> Wrong:
    now = datetime.now(UTC)
    found = _seen(endpoint, files)
    if not found:
        return Wrong("certificate", "Its certificate is out of its time.", "Renew it, and check this machine's clock.")
    start, end = _moment(found["notBefore"]), _moment(found["notAfter"])
    clock = f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if now < start:
        return Wrong(
            "certificate",
            f"Its certificate is valid only from {start:%Y-%m-%d %H:%M} UTC on.",
            f"{clock}: is that right?",
        )
    if end < now:
        return Wrong(
            "certificate",
            f"Its certificate has expired on {end:%Y-%m-%d %H:%M} UTC.",
            f"{clock}. If that is right, renew it on the scheduler's machine: towpath-server tls-init",
        )
    return Wrong("certificate", "The certificate of its CA has expired, or is not valid yet.", f"{clock}.")


def _seen(endpoint: Endpoint, files: TlsFiles) -> Mapping[str, Any]:
    """A certificate of the right CA, whatever its time and its names are; nothing where there is none."""
    context = _context(files)
    context.check_hostname = False
    context.verify_flags |= WHENEVER
    try:
        return _shake(endpoint, context)[0]
    except OSError:
        return {}


def _unwelcome(files: TlsFiles) -> Wrong:
    if files.cert is None:
        return Wrong(
            "client certificate",
            "It hangs up once it has seen that this side shows no certificate.",
            "Give yours: --tls-cert FILE --tls-key FILE. Its admin makes one: towpath-server tls-init --client NAME",
        )
    return Wrong(
        "client certificate",
        f"It does not take the certificate in {files.cert}.",
        "Has it expired, or is it of another CA than the scheduler's --tls-client-ca? "
        "Its admin makes one: towpath-server tls-init --client NAME",
    )


def _names(found: Mapping[str, Any]) -> list[str]:
    # OpenSSL writes an address of IPv6 out at length.
    return [_short(value) if kind == "IP Address" else str(value) for kind, value in found.get("subjectAltName", ())]


def _short(address: str) -> str:
    return str(ip_address(address)) if is_ip(address) else address


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)

"""The checks in their order, each address by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from towpath import settings
from towpath.doctor import certificates, wire
from towpath.doctor.calls import check_calls, check_health
from towpath.doctor.files import FoundToken, modes, token
from towpath.doctor.findings import Finding, Wrong
from towpath.errors import InvalidArgument
from towpath.tls import TlsFiles, TlsSource


def examine(
    server: str | None,
    token_file: Path | None,
    *,
    insecure: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> Iterator[Finding]:
    """Each thing that was looked at, as it was found. What only follows from something wrong is not looked at."""
    try:
        addresses = settings.addresses(settings.address(server))
    except InvalidArgument as error:
        yield Finding("", "address", False, error.message, "Give --server HOST:PORT, or set TOWPATH_ADDRESS.")
        return
    try:
        files = TlsFiles.of(tls_ca, tls_cert, tls_key, insecure=insecure)
        if files.all:
            files.read()
        tls = TlsSource(files, insecure)
    except InvalidArgument as error:
        yield Finding("", "TLS files", False, error.message, "Check --tls-ca, --tls-cert and --tls-key.")
        return
    found: FoundToken | None = None
    try:
        found = token(token_file)
    except Wrong as wrong:
        yield wrong.at("")
    yield from modes(found, files)
    for address in addresses:
        try:
            yield from _at(address, found, tls)
        except Wrong as wrong:
            yield wrong.at(address)


def _at(address: str, found: FoundToken | None, tls: TlsSource) -> Iterator[Finding]:
    there = wire.endpoints(address)
    if not address.startswith("unix:"):
        yield Finding(address, "name", True, f"It stands for {', '.join(dict.fromkeys(_shown(one) for one in there))}.")
    endpoint = wire.reach(there)
    yield Finding(address, "connection", True, f"Somebody listens at {_shown(endpoint)}.")
    if tls.files.all or not (tls.insecure or settings.is_loopback(address)):
        yield Finding(address, "TLS", True, certificates.check_tls(endpoint, tls.files))
    else:
        yield Finding(address, "plain text", True, wire.check_plain(endpoint))
    yield Finding(address, "gRPC", True, check_health(address, tls))
    if found is not None:
        yield from check_calls(address, found, tls.files, insecure=tls.insecure)


def _shown(endpoint: wire.Endpoint) -> str:
    return endpoint.where if isinstance(endpoint.where, str) else endpoint.where[0]

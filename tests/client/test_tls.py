"""The client's certificate files: what is refused in words, and that a new connection takes what they hold then."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import grpc
import pytest

from support.certificates import Authority, Files
from support.fake_jobs import TOKEN, FakeJobs, serving
from towpath import AsyncClient, Client, settings
from towpath.errors import InvalidArgument, Unavailable
from towpath.tls import TlsFiles, TlsSource


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOWPATH_TLS_CA", "TOWPATH_TLS_CERT", "TOWPATH_TLS_KEY"):
        monkeypatch.delenv(name, raising=False)


def mutual(ca: Authority) -> grpc.ServerCredentials:
    """A server that wants certificates of the CA that made its own."""
    return grpc.ssl_server_credentials([ca.server().pair], ca.cert.read_bytes(), require_client_auth=True)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "first")


@pytest.fixture
def files(tmp_path: Path, ca: Authority) -> TlsFiles:
    found = TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    put(found, ca, ca.client())
    return found


def put(files: TlsFiles, ca: Authority, shown: Files) -> None:
    """What somebody does who renews them."""
    trusted, cert, key = files.all
    trusted.write_bytes(ca.cert.read_bytes())
    shown.put(cert, key)


def client_of(address: str, files: TlsFiles) -> Client:
    return Client(address, TOKEN, tls_ca=files.ca, tls_cert=files.cert, tls_key=files.key, timeout=10)


def test_a_server_that_asks_for_a_certificate_gets_one(
    ca: Authority, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FakeJobs(), tls=mutual(ca)) as address:
        with client_of(address, files) as client:
            client.stats()
        with Client(address, TOKEN, tls_ca=files.ca, timeout=5) as client, pytest.raises(Unavailable):
            client.stats()
        for name, path in zip(("CA", "CERT", "KEY"), files.all, strict=True):
            monkeypatch.setenv(f"TOWPATH_TLS_{name}", str(path))
        with Client(address, TOKEN, timeout=10) as client:
            client.stats()


@pytest.fixture
def port() -> int:
    """A port that one server after another listens on."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        return int(kept.getsockname()[1])


def test_what_was_renewed_is_taken_at_the_next_connection(
    ca: Authority, files: TlsFiles, port: int, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    with client_of(f"127.0.0.1:{port}", files) as client:
        with serving(FakeJobs(), port, tls=mutual(ca)):
            client.stats()
            put(files, other, other.client())
            # The connection of before goes on.
            client.stats()
        with serving(FakeJobs(), port, tls=mutual(other)):
            client.stats()


def test_files_that_are_half_written_change_nothing_and_are_said_once(
    ca: Authority, files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    source = TlsSource(files)
    first = source.credentials("there:1")
    assert source.credentials("there:1") is first
    _, cert, key = files.all
    renewed = ca.client()
    key.write_bytes(renewed.key.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert source.is_stale
        assert source.credentials("there:1") is source.credentials("there:1") is first
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    cert.write_bytes(renewed.cert.read_bytes())
    assert source.credentials("there:1") is not first
    assert not source.is_stale


async def test_so_it_is_for_asyncio_and_so_for_workers(
    ca: Authority, files: TlsFiles, port: int, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    async with AsyncClient(
        f"127.0.0.1:{port}", TOKEN, tls_ca=files.ca, tls_cert=files.cert, tls_key=files.key, timeout=10
    ) as client:
        with serving(FakeJobs(), port, tls=mutual(ca)):
            await client.stats()
        put(files, other, other.client())
        with serving(FakeJobs(), port, tls=mutual(other)):
            await client.stats()


def test_files_that_cannot_be_used_are_refused_in_words(ca: Authority, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    one, another = ca.client(), ca.client()
    for given, words in (
        (TlsFiles(junk), "holds no certificate"),
        (TlsFiles(tmp_path / "none"), "Cannot read .*none: No such file"),
        (TlsFiles(ca.cert, one.cert, another.key), "no certificate and its key"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            given.read()
        # A client says so at its first call, and at no later one.
        with client_of("127.0.0.1:1", given) as client, pytest.raises(InvalidArgument, match=words):
            client.stats()
    with pytest.raises(InvalidArgument, match="together"):
        TlsFiles(cert=one.cert)
    with pytest.raises(InvalidArgument, match="not both"):
        Client("127.0.0.1:1", TOKEN, insecure=True, tls_ca=ca.cert)


def test_plain_text_that_was_asked_for_wins_over_the_environment(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWPATH_TLS_CA", str(ca.cert))
    with serving(FakeJobs()) as address, Client(address, TOKEN, insecure=True) as client:
        client.stats()


def test_localhost_is_this_machine_only_where_it_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: elsewhere)
    assert not settings.is_loopback("localhost:1")
    assert TlsSource(TlsFiles()).credentials("localhost:1") is not None

"""The server's certificates over real connections: who is let in, and what a change of the files does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import structlog
from cryptography.hazmat.primitives import serialization

from support.certificates import DAY, Authority, Files, trusting
from support.rpc_stage import stage
from towpath.v1 import admin_service_pb2, admin_service_pb2_grpc
from towpath_server.rpc.server import make_server
from towpath_server.tls_files import Certificates, TlsFiles, TlsRefused


@dataclass(frozen=True)
class Place:
    """A server whose clients need a certificate of `ca`, and its files."""

    ca: Authority
    files: TlsFiles
    address: str
    metadata: tuple[tuple[str, str], ...]

    def channel(self, ca: Path, shown: Files | None) -> grpc.aio.Channel:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(self.address, trusting(ca, shown), options=options)

    async def answers(self, channel: grpc.aio.Channel) -> bool:
        """Whether a call is answered."""
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        try:
            await stub.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=self.metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    async def takes(self, ca: Path, shown: Files | None) -> bool:
        """Whether a new connection is."""
        async with self.channel(ca, shown) as channel:
            return await self.answers(channel)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    ca = Authority(tmp_path, "first")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "client-ca.pem")
    ca.server().put(files.cert, files.key)
    (tmp_path / "client-ca.pem").write_bytes(ca.cert.read_bytes())
    async with stage() as made:
        server = make_server(made.scheduler, tls=Certificates(files).credentials())
        await server.start()
        yield Place(ca, files, f"127.0.0.1:{server.port}", made.bearer())
        await server.stop(0)


async def test_only_who_has_a_certificate_of_the_ca_is_let_in(place: Place, tmp_path: Path) -> None:
    trusted = place.ca.cert
    assert await place.takes(trusted, place.ca.client())
    assert not await place.takes(trusted, None)
    assert not await place.takes(trusted, Authority(tmp_path, "other").client())
    assert not await place.takes(trusted, place.ca.client(ends=-DAY))
    # A server's certificate makes no client.
    assert not await place.takes(trusted, place.ca.server())
    async with grpc.aio.insecure_channel(place.address) as plain:
        assert not await place.answers(plain)


async def test_new_files_are_for_new_connections_and_the_old_ones_go_on(place: Place, tmp_path: Path) -> None:
    before, old = place.ca.cert, place.ca.client()
    other = Authority(tmp_path, "other")
    async with place.channel(before, old) as kept:
        assert await place.answers(kept)
        other.server().put(place.files.cert, place.files.key)
        assert await place.takes(other.cert, old)
        assert not await place.takes(before, old)
        assert place.files.client_ca is not None
        place.files.client_ca.write_bytes(other.cert.read_bytes())
        assert await place.takes(other.cert, other.client())
        assert not await place.takes(other.cert, old)
        assert await place.answers(kept)


async def test_files_that_cannot_be_used_change_nothing_and_are_said_once(place: Place, tmp_path: Path) -> None:
    shown, other = place.ca.client(), Authority(tmp_path, "other")
    made = other.server()
    with structlog.testing.capture_logs() as logs:
        # Half of a renewal: the key of another certificate.
        place.files.key.write_bytes(made.key.read_bytes())
        assert await place.takes(place.ca.cert, shown)
        assert await place.takes(place.ca.cert, shown)
        place.files.cert.write_bytes(made.cert.read_bytes()[:100])
        assert await place.takes(place.ca.cert, shown)
        place.files.cert.unlink()
        assert await place.takes(place.ca.cert, shown)
    assert [one["log_level"] for one in logs] == ["error"] * 3
    assert all("the old ones go on" in one["words"] for one in logs)
    assert all("PRIVATE" not in str(one) for one in logs)
    place.files.cert.write_bytes(made.cert.read_bytes())
    assert await place.takes(other.cert, shown)


def test_what_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    made, another = ca.server(), ca.server()
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    locked = tmp_path / "locked.pem"
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    for files, words in (
        (TlsFiles(made.cert, another.key), "no certificate and its key"),
        (TlsFiles(junk, made.key), "no certificate and its key"),
        (TlsFiles(made.cert, locked), "has a passphrase"),
        (TlsFiles(made.cert, made.key, junk), "--tls-client-ca"),
        (TlsFiles(made.cert, tmp_path / "nowhere"), "cannot read .*nowhere: No such file"),
    ):
        with pytest.raises(TlsRefused, match=words):
            files.load()


@pytest.mark.skipif(os.name != "posix", reason="looks at the mode of a file")
def test_a_key_for_all_to_read_and_a_certificate_near_its_end_are_warned_of(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    made = ca.server(ends=timedelta(days=60))
    assert not TlsFiles(made.cert, made.key).warnings()
    made.key.chmod(0o640)
    assert "chmod 600" in TlsFiles(made.cert, made.key).warnings()[0]
    over = ca.server(ends=-timedelta(hours=1))
    assert "has expired on" in TlsFiles(over.cert, over.key).warnings()[0]

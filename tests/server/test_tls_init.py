"""`towpath-server tls-init`: what it makes is taken, what is there is kept, and what is in the way is refused."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from support.rpc_stage import stage
from towpath import AsyncClient
from towpath.errors import Unavailable
from towpath_server import command
from towpath_server.core.records import Role
from towpath_server.rpc.server import make_server
from towpath_server.tls_files import Certificates, TlsFiles
from towpath_server.tls_init import TlsInitRefused, TlsInitSettings, guessed_names, tls_init


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWPATH_SERVER_CONFIG", str(tmp_path / "server.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def make(folder: Path, *, name: tuple[str, ...] = (), client: tuple[str, ...] = (), force: bool = False) -> str:
    return tls_init(TlsInitSettings(dir=folder, name=list(name), client=list(client), force=force))


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names_of(path: Path) -> list[str]:
    found = read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(one.value) for one in found]


async def test_what_it_makes_is_taken(folder: Path) -> None:
    said = make(folder, client=("ada",))
    assert "--tls-client-ca" in said
    assert "towpath doctor --server" in said
    files = TlsFiles(folder / "server.pem", folder / "server-key.pem", folder / "ca.pem")
    assert not files.warnings()
    async with stage() as made:
        server = make_server(made.scheduler, tls=Certificates(files).credentials())
        await server.start()
        token = made.tokens[Role.SUBMITTER]
        for host in ("127.0.0.1", "localhost"):
            async with AsyncClient(
                f"{host}:{server.port}",
                token,
                tls_ca=folder / "ca.pem",
                tls_cert=folder / "client-ada.pem",
                tls_key=folder / "client-ada-key.pem",
            ) as client:
                await client.stats()
        # The server's own certificate makes no client.
        async with AsyncClient(
            f"127.0.0.1:{server.port}",
            token,
            tls_ca=folder / "ca.pem",
            tls_cert=files.cert,
            tls_key=files.key,
            timeout=0.5,
        ) as client:
            with pytest.raises(Unavailable):
                await client.stats()
        await server.stop(0)


def test_what_stands_in_them(folder: Path) -> None:
    make(folder, name=("sched.home", "10.0.0.7", "fe80::1"), client=("ada",))
    ca, server, client = (read(folder / f"{stem}.pem") for stem in ("ca", "server", "client-ada"))
    assert names_of(folder / "server.pem") == ["sched.home", "10.0.0.7", "fe80::1"]
    now = datetime.now(UTC)
    assert timedelta(days=3640) < ca.not_valid_after_utc - now <= timedelta(days=3650)
    for leaf, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert leaf.not_valid_after_utc - now <= timedelta(days=825)
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        leaf.verify_directly_issued_by(ca)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0
    assert len({one.serial_number for one in (ca, server, client)}) == 3
    for stem in ("ca", "server", "client-ada"):
        assert stat.S_IMODE((folder / f"{stem}-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_again_it_renews_the_certificate_and_keeps_the_ca_and_the_names(folder: Path) -> None:
    make(folder, name=("sched.home",))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "(renewed) for sched.home" in make(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca-key.pem"}
    make(folder, name=("other.home",))
    assert names_of(folder / "server.pem") == ["other.home"]


def test_what_is_in_the_way_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    make(folder)
    make(tmp_path / "other")
    # A certificate of another CA; a CA without its key, or with another one; a key alone.
    (folder / "server.pem").write_bytes((tmp_path / "other" / "server.pem").read_bytes())
    _unchanged(folder, "of another CA")
    (folder / "server.pem").unlink()
    _unchanged(folder, "without its certificate")
    (folder / "ca-key.pem").write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
    _unchanged(folder, "no CA of its key")
    (folder / "ca-key.pem").write_text("junk")
    _unchanged(folder, "cannot be read")
    (folder / "ca-key.pem").unlink()
    _unchanged(folder, "without the other file")
    before = (folder / "ca.pem").read_bytes()
    (folder / "ca.pem").unlink()
    _unchanged(folder, "server-key.pem is of another CA")
    make(folder, force=True)
    assert (folder / "ca.pem").read_bytes() != before


def _unchanged(folder: Path, words: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TlsInitRefused, match=words):
        make(folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "https://there"], "is no name or address"),
        (["--name", "there:7070"], "is no name or address"),
        (["--client", "../ada"], "is no name for a file"),
        (["--days", "826"], "825"),
    ],
)
def test_wrong_words_are_refused(
    folder: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["towpath-server", "tls-init", "--dir", str(folder), *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TlsInitRefused, match="Give another --dir"):
        make(tmp_path / "file" / "tls")


def test_it_guesses_the_names_of_this_machine() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(guessed_names())

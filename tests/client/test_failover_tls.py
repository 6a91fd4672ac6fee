"""Several addresses and TLS: each scheduler has to prove the name by which it was called."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from support.fake_jobs import TOKEN, FakeJobs, serving
from towpath import Client

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")


@dataclass(frozen=True)
class Certificates:
    """One for each address, and all of them in one file, to be trusted."""

    folder: Path

    def of(self, host: str) -> grpc.ServerCredentials:
        """With it a server proves that it is this host."""
        key, certificate = self.folder / f"{host}.key", self.folder / f"{host}.pem"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=IP:{host}", "-days", "1"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(["openssl", "req", "-x509", *curve, *names, *files], check=True, capture_output=True)
        with self.trusted.open("ab") as file:
            file.write(certificate.read_bytes())
        return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])

    @property
    def trusted(self) -> Path:
        """What a client is given."""
        return self.folder / "trusted.pem"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture(autouse=True)
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "sample", lambda addresses, count: addresses)


def test_each_has_its_own_name(certificates: Certificates, jobs: FakeJobs) -> None:
    first, second = certificates.of("127.0.0.1"), certificates.of("127.0.0.2")
    with serving(jobs, host="127.0.0.2", tls=second) as other:
        with serving(FakeJobs(), tls=first) as address:
            client = Client(f"{address},{other}", TOKEN, tls_ca=certificates.trusted, timeout=10)
            client.stats()
            assert not jobs.calls
        with client:
            client.stats()
    assert len(jobs.calls) == 1


def test_one_that_has_the_name_of_another_is_told_nothing(certificates: Certificates, jobs: FakeJobs) -> None:
    first, impostor = certificates.of("127.0.0.1"), FakeJobs()
    with (
        serving(impostor, host="127.0.0.2", tls=first) as wrong,
        serving(jobs, tls=first) as right,
        Client(f"{wrong},{right}", TOKEN, tls_ca=str(certificates.trusted), timeout=10) as client,
    ):
        client.stats()
    assert len(jobs.calls) == 1
    assert not impostor.calls

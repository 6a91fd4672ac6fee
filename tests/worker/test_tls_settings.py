"""Where a worker's certificates come from: flags, the worker's own environment, then that of all clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from towpath_worker.settings import load

CA, CERT, KEY = Path("ca.pem"), Path("cert.pem"), Path("key.pem")


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.delenv(f"TOWPATH_TLS_{name}", raising=False)
        monkeypatch.delenv(f"TOWPATH_WORKER_TLS_{name}", raising=False)
    monkeypatch.setenv("TOWPATH_TOKEN", "tow_of-the-tests")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_flags_then_the_workers_environment_then_that_of_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({}).tls_ca is None
    for name, path in (("CA", CA), ("CERT", CERT), ("KEY", KEY)):
        monkeypatch.setenv(f"TOWPATH_TLS_{name}", f"all-{path}")
    found = load({})
    assert (found.tls_ca, found.tls_cert, found.tls_key) == (
        Path("all-ca.pem"),
        Path("all-cert.pem"),
        Path("all-key.pem"),
    )
    monkeypatch.setenv("TOWPATH_WORKER_TLS_CA", "own.pem")
    assert load({}).tls_ca == Path("own.pem")
    found = load({"tls_ca": CA, "tls_cert": CERT, "tls_key": KEY})
    assert (found.tls_ca, found.tls_cert, found.tls_key) == (CA, CERT, KEY)
    # Plain text that was asked for.
    monkeypatch.delenv("TOWPATH_WORKER_TLS_CA")
    assert load({"insecure": True}).tls_ca is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"tls_cert": CERT}, "--tls-cert and --tls-key together"),
        ({"tls_key": KEY}, "--tls-cert and --tls-key together"),
        ({"insecure": True, "tls_ca": CA}, "not both"),
        ({"insecure": True, "tls_cert": CERT, "tls_key": KEY}, "not both"),
    ],
)
def test_what_contradicts_itself_is_refused(flags: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(flags)

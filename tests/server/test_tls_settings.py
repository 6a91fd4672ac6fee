"""Which addresses a scheduler may listen on in plain text, and which settings of TLS contradict each other."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from towpath_server.settings import Settings, is_loopback

CERT, KEY, CA = Path("cert.pem"), Path("key.pem"), Path("ca.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LocalHost"])
def test_this_machine_alone_needs_no_tls(host: str) -> None:
    assert is_loopback(host)
    assert Settings(listen=f"{host}:0").host == host


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "[::]", "10.0.0.1", "towpath.example", "*", "localhost.", "127.1", "0"),
        *("[::ffff:10.0.0.1]", "[::ffff:0.0.0.0]", "2130706433", "unix:/tmp/socket", "127.0.0.1.example"),
    ],
)
def test_all_others_do(host: str) -> None:
    with pytest.raises(ValidationError, match="can be reached from other machines"):
        Settings(listen=f"{host}:7070")
    assert Settings(listen=f"{host}:7070", insecure=True).insecure
    assert Settings(listen=f"{host}:7070", tls_cert=CERT, tls_key=KEY).tls_cert == CERT


def test_localhost_that_stands_for_another_machine_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: elsewhere)
    with pytest.raises(ValidationError, match="can be reached from other machines"):
        Settings(listen="localhost:7070")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tls_cert": CERT}, "--tls-cert and --tls-key together"),
        ({"tls_key": KEY}, "--tls-cert and --tls-key together"),
        ({"tls_client_ca": CA}, "needs --tls-cert"),
        ({"tls_cert": CERT, "tls_key": KEY, "insecure": True}, "not both"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(listen="127.0.0.1:0", **given)  # type: ignore[arg-type]

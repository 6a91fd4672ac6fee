"""Where the scheduler is, which token it is shown, and that the token shows nowhere else."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from support.certificates import Authority
from support.fake_jobs import TOKEN, FakeJobs, serving
from towpath import AsyncClient, Client, bearer, channel, settings
from towpath.errors import InvalidArgument, Unavailable
from towpath.tls import TlsFiles, TlsSource


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "127.0.0.1:7070"),
        ("there", "there:7070"),
        ("there:1", "there:1"),
        (" 10.0.0.1:80 ", "10.0.0.1:80"),
        ("::1", "[::1]:7070"),
        ("[::1]:80", "[::1]:80"),
        ("unix:/tmp/x", "unix:/tmp/x"),
        ("unix:/tmp/x,y", "unix:/tmp/x,y"),
        (" a , b:1,::1,[::1]:1 ", "a:7070,b:1,[::1]:7070,[::1]:1"),
    ],
)
def test_addresses(given: str | None, found: str) -> None:
    assert settings.address(given) == found


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("unix:/tmp/x,y", ("unix:/tmp/x,y",)),
        ("a:7070", ("a:7070",)),
        ("a:7070,[::1]:1", ("a:7070", "[::1]:1")),
    ],
)
def test_each_of_several_addresses(given: str, parts: tuple[str, ...]) -> None:
    assert settings.addresses(given) == parts
    assert settings.spoken(given) == " or ".join(parts)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("a,,b", "An address is empty. It is part 2 of 'a,,b'"),
        ("a,b,", "An address is empty. It is part 3 of"),
        (",", "An address is empty. It is part 1 of"),
        ("a,b:x", "'b:x' is not an address"),
        ("a,http://b,c", "'http://b' is not an address. Write it as HOST:PORT, without a scheme. It is part 2 of"),
        ("a,b:7070,b", "'b:7070' is there twice. It is part 3 of"),
        ("[::1],a,::1", r"'[::1]:7070' is there twice. It is part 3 of"),
        ("a,unix:/tmp/x", "'unix:/tmp/x' is a socket of this machine"),
        ("a,b c", "'b c' is not an address"),
    ],
)
def test_what_is_no_list_of_addresses_names_the_part(given: str, wrong: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settings.address(given)
    assert wrong in caught.value.message


def test_clients_of_a_name_with_many_addresses_spread_over_them() -> None:
    shuffled = ("grpc.service_config", channel.SHUFFLED)
    assert shuffled in channel.options_for("there:1")
    assert all(shuffled not in channel.options_for(one) for one in ("10.0.0.1:1", "[fe80::1]:1", "localhost:1"))


@pytest.mark.parametrize(
    "given",
    [
        "http://there",
        "there:0",
        "there:x",
        "there:65536",
        ":80",
        "[::1",
        "there:\uff17",
        "there:1:2",
        "a:1 b:1",
        "a;b",
        "[there]:1:2",
    ],
)
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        settings.address(given)


def test_the_environments_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWPATH_ADDRESS", "there")
    assert settings.address() == "there:7070"
    assert settings.address("here") == "here:7070"


def test_tokens_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.token() is None
    settings.token_path().parent.mkdir(parents=True)
    settings.token_path().write_text("tok-config\n")
    assert settings.token() == "tok-config"
    (tmp_path / "file").write_text(" tok-file\n\n")
    monkeypatch.setenv("TOWPATH_TOKEN_FILE", str(tmp_path / "file"))
    assert settings.token() == "tok-file"
    monkeypatch.setenv("TOWPATH_TOKEN", "tok-variable")
    assert settings.token() == "tok-variable"
    assert settings.token("tok-explicit") == "tok-explicit"


def test_a_token_file_that_is_empty_or_missing_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOWPATH_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="TOWPATH_TOKEN_FILE"):
        Client()
    (tmp_path / "none").write_text("\n")
    with pytest.raises(InvalidArgument, match="holds no token"):
        Client()


@pytest.mark.parametrize("token", ["two words", "with\nline", "größe"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Client(token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "insecure", "plain"),
    [
        ("127.0.0.1:1", False, True),
        ("127.8.9.1:1", False, True),
        ("localhost:1", False, True),
        ("[::1]:1", False, True),
        ("unix:/tmp/x", False, True),
        ("10.0.0.1:1", False, False),
        ("there:1", False, False),
        ("localhost.there:1", False, False),
        ("localhost.:1", False, False),
        ("0.0.0.0:1", False, False),
        ("[::]:1", False, False),
        ("[::ffff:10.0.0.1]:1", False, False),
        ("127.1:1", False, False),
        ("2130706433:1", False, False),
        ("LOCALHOST:1", False, True),
        ("there:1", True, True),
    ],
)
def test_plain_text_only_to_this_machine_or_where_told_so(address: str, insecure: bool, plain: bool) -> None:
    assert (TlsSource(TlsFiles(), insecure).credentials(address) is None) is plain


def test_a_certificate_means_tls_also_to_this_machine(tmp_path: Path) -> None:
    ca = Authority(tmp_path).cert
    assert TlsSource(TlsFiles(ca)).credentials("localhost:1") is not None
    with pytest.raises(InvalidArgument, match="not both"):
        TlsSource(TlsFiles(ca), insecure=True)


def test_a_scheduler_without_tls_is_told_apart(tmp_path: Path) -> None:
    ca = Authority(tmp_path).cert
    with serving(FakeJobs()) as address, Client(address, TOKEN, tls_ca=ca) as client, pytest.raises(Unavailable):
        client.stats()


SECRET = "tok-secret-of-secrets"


async def test_the_token_shows_in_no_repr_and_no_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client, aclient = Client(address, SECRET), AsyncClient(address, SECRET)
    for call in (client.stats, client.whoami, client.job("job_x").refresh):
        with pytest.raises(Exception, match=r".") as caught:
            call()
        assert SECRET not in repr(caught.value) + str(caught.value)
    with pytest.raises(Exception, match=r".") as caught:
        await aclient.stats()
    assert SECRET not in repr(caught.value)
    handle = client.job("job_x")
    shown = [client, aclient, client._connection, aclient._connection, handle, client.get_executor()]
    shown += [
        bearer.Secret(SECRET),
        bearer.sync_interceptor(SECRET),
        *bearer.aio_interceptors(SECRET),
        client._connection.stubs,
    ]
    assert SECRET not in "".join(map(repr, shown))
    client.close()
    await aclient.close()
    assert SECRET not in caplog.text


METHODS = {"unary_unary": False, "unary_stream": False, "stream_unary": True, "stream_stream": True}


class Echo(grpc.GenericRpcHandler):
    """Answers each kind of call with the authorization that it carried."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        kind = details.method.rpartition("/")[2]
        found = str(dict(details.invocation_metadata)["authorization"]).encode()
        make: Callable[..., grpc.RpcMethodHandler[bytes, bytes]] = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(lambda request, context: iter([found]) if kind.endswith("stream") else found)


async def test_all_four_kinds_of_call_carry_the_token() -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    expected = f"Bearer {SECRET}".encode()
    with channel.sync_channel(address, SECRET) as blocking:
        for kind, streams in METHODS.items():
            answer = getattr(blocking, kind)(f"/t/{kind}")(iter([b"x"]) if streams else b"x")
            assert (next(answer) if kind.endswith("stream") else answer) == expected
    async with channel.aio_channel(address, SECRET) as opened:
        for kind, streams in METHODS.items():
            call = getattr(opened, kind)(f"/t/{kind}")(iter([b"x"]) if streams else b"x")
            assert ([one async for one in call] if kind.endswith("stream") else [await call]) == [expected]
    server.stop(None).wait()
    gc.collect()


def test_a_closed_client_says_so(address: str) -> None:
    client = Client(address, TOKEN)
    client.stats()
    client.close()
    client.close()
    with pytest.raises(InvalidArgument, match="closed"):
        client.stats()

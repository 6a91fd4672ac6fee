"""URLs of stores: wrong ones are explained, and no password is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from towpath_server import store_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "give sqlite:///PATH, postgresql://USER@HOST/DATABASE or memory:"),
        ("memory", "give sqlite:///PATH"),
        ("sqlite:///", "give sqlite:///PATH"),
        ("sqlite:/tmp/a", "three slashes"),
        ("SQLITE:///a", "three slashes"),
        ("/tmp/towpath.db", "give sqlite:///PATH"),
        (f"mysql://ada:{SECRET}@db/towpath", "not mysql:..."),
        (f"postgresql+psycopg://ada:{SECRET}@db/towpath", "not postgresql+psycopg:..."),
        (f"postgresql:/ada:{SECRET}@db/towpath", "not postgresql:..."),
        (f"{SECRET}", "give sqlite:///PATH"),
        (f"user={SECRET} password={SECRET}: dbname=x", "give sqlite:///PATH"),
        ("postgresql://", "names no database"),
        (f"postgresql://ada:{SECRET}@db", "names no database"),
        (f"postgresql://ada:{SECRET}@db/", "names no database"),
        (f"postgresql://ada:{SECRET}@db/?sslmode=require", "names no database"),
        ("postgresql://ada@db:port/towpath", "cannot be read"),
        ("postgresql://ada@db:70000/towpath", "cannot be read"),
        ("postgresql://ada@db:0/towpath", "cannot be read"),
        ("postgresql://ada@one:5432,two:x/towpath", "cannot be read"),
        # Passwords with characters that mean something here.
        (f"postgresql://ada:{SECRET}@{SECRET}@db/towpath", "each special character of the password as %XX"),
        (f"postgresql://ada:{SECRET}/{SECRET}@db/towpath", "each special character of the password as %XX"),
        (f"postgresql://ada:1/{SECRET}@db/towpath", "each special character of the password as %XX"),
        (f"postgresql://ada:1?{SECRET}@db/towpath", "?NAME=VALUE"),
        (f"postgresql://ada:1?a={SECRET}@db/towpath", "each special character of the password as %XX"),
        ("postgresql://ada@db/towpath?sslmode", "?NAME=VALUE"),
        ("postgresql://ada@db/towpath?options=-c%20jit=off", "%3D for a ="),
    ],
)
def test_wrong_ones_are_explained_without_their_secrets(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        store_url.check(url)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("sqlite:///towpath.db", "sqlite:///towpath.db"),
        ("postgresql:///towpath", "postgresql:///towpath"),
        ("postgres://db/towpath", "postgres://db/towpath"),
        ("POSTGRESQL://ada@db:5433/towpath", "POSTGRESQL://ada@db:5433/towpath"),
        (f"postgresql://ada:{SECRET}@db/towpath", "postgresql://ada@db/towpath"),
        (f"postgresql://:{SECRET}@db/towpath", "postgresql://@db/towpath"),
        (f"postgresql://ada:{SECRET}@[::1]:5432/towpath", "postgresql://ada@[::1]:5432/towpath"),
        (
            f"postgresql://ada:{SECRET}@one,two:5433/towpath?target_session_attrs=read-write",
            "postgresql://ada@one,two:5433/towpath?target_session_attrs=read-write",
        ),
        (f"postgresql://ada@/towpath?host=/run/pg&password={SECRET}", "postgresql://ada@/towpath?host=/run/pg"),
        (f"postgresql://ada@db/towpath?pass%77ord={SECRET}", "postgresql://ada@db/towpath"),
        (f"postgresql://db?dbname=towpath&sslpassword={SECRET}", "postgresql://db?dbname=towpath"),
    ],
)
def test_right_ones_are_shown_without_their_secrets(url: str, shown: str) -> None:
    store_url.check(url)
    assert store_url.shown(url) == shown
    store_url.check(shown)
    assert store_url.holds_password(f"--store={url}") == (SECRET in url)
    assert not store_url.holds_password(shown)


def test_only_a_sqlite_store_lies_in_a_file() -> None:
    assert store_url.path_of("sqlite:///a/b.db") == Path("a/b.db")
    assert store_url.path_of("sqlite:////a/b.db") == Path("/a/b.db")
    assert store_url.path_of("sqlite:///~/b.db") == Path.home() / "b.db"
    assert store_url.path_of("memory:") is None
    assert store_url.path_of("postgresql://db/sqlite:///a") is None

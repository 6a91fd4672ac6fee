"""The blocking client is what the asyncio one gives, and both offer the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import towpath
from towpath import AsyncClient, AsyncJobHandle, Client, JobHandle

SCRIPT = Path(__file__).parents[2] / "client" / "generate_sync.py"


def test_the_blocking_client_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def public(cls: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in inspect.getmembers(cls, callable)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("blocking", "over_asyncio"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle)])
def test_both_offer_the_same(blocking: type, over_asyncio: type) -> None:
    offered = public(blocking)
    # Futures over asyncio are tasks, which every loop has.
    offered.pop("get_executor", None)
    assert offered == public(over_asyncio)


def test_everything_public_is_there_and_has_a_docstring() -> None:
    for name in towpath.__all__:
        assert inspect.getdoc(getattr(towpath, name)), name
    for cls in (Client, AsyncClient, JobHandle, AsyncJobHandle):
        for name, member in inspect.getmembers(cls):
            assert name.startswith("_") or inspect.getdoc(member), (cls, name)
    with pytest.raises(AttributeError):
        towpath.nothing_of_that_name  # noqa: B018
    assert set(towpath.__all__) <= set(dir(towpath))

"""The attack script, as a reader runs it: all of it holds here, and it says so where something does not."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from support import processes
from support.rpc_stage import Stage, stage
from towpath import Client
from towpath_server.core.records import Principal, Role
from towpath_server.rpc import auth

SCRIPT = Path(__file__).with_name("attack.py")
# It takes a worker's core for many seconds; `make soak` runs it, and lines 29 and 30 of the catalogue hold it here.
LONG = "a job without an end"
# What no scheduler without a boundary can hold.
OPEN_DOORS = (
    "no token",
    "wrong token",
    "guessing",
    "another's job",
    "more than its role",
    "invitation",
    "revoked token",
)


async def attack(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """How it ended, and what it said of each attack."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, "--json", *words, env=processes.clean(), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, {one["attack"]: one for one in json.loads(said or b"[]")}


async def test_every_attack_is_held_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data, state = tmp_path / "data", tmp_path / "worker" / "state"
    data.mkdir()
    limits = ("--slots", "1", "--max-table-bytes", "20M", "--data-dir", str(data))
    with (
        processes.scheduler(tmp_path) as at,
        processes.worker(at, tmp_path / "worker", *limits) as worker,
        Client(at.address, at.token) as client,
    ):
        words = ["--server", at.address, "--token-file", str(at.token_file), "--without", LONG]
        logs = (tmp_path / "towpath_server.log", tmp_path / "worker" / "towpath_worker.log")
        words += ["--data-dir", str(data), "--models-dir", str(state / "models")]
        code, said = await attack(*words, *(word for log in logs for word in ("--log", str(log))))
        assert {name: one["came_back"] for name, one in said.items() if one["verdict"] != "held"} == {}
        assert code == 0
        assert len(said) > 30
        # The worker lives, and nothing is left of what was made.
        assert worker.poll() is None
        assert client.submit("list_models").result().total_count == 0
        assert not list(data.iterdir())
        assert not [job for job in client.jobs() if job.job_type != "list_models"]
        assert [one.name for one in client.workers(include_offline=True)] == [platform.node()[:100]]


def opened(monkeypatch: pytest.MonkeyPatch, at: Stage) -> None:
    """Let in everybody as the admin."""
    admin = at.scheduler.access.authenticate(at.tokens[Role.ADMIN])

    def admit(*_: object) -> Principal:
        auth._caller.set(admin)
        return admin

    monkeypatch.setattr(auth, "admit", admit)


async def test_it_says_what_falls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with stage() as at:
        token.write_text(at.tokens[Role.ADMIN], encoding="utf-8")
        opened(monkeypatch, at)
        only = [word for name in (*OPEN_DOORS, "words of errors") for word in ("--only", name)]
        code, said = await attack("--server", at.address, "--token-file", str(token), *only)
    assert code == 1
    assert {name for name, one in said.items() if one["verdict"] == "FELL"} == set(OPEN_DOORS)
    assert said["words of errors"]["verdict"] == "held"


async def test_it_says_that_nobody_is_there() -> None:
    [nowhere] = processes.free_addresses(1)
    assert (await attack("--server", nowhere))[0] == 2

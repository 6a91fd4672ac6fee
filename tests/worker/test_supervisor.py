"""The worker as a real process: signals, its words at the start, its exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.fake_scheduler import FakeScheduler, listening
from support.worker_stage import alive, command, settings_for, working
from towpath.v1 import worker_service_pb2
from towpath_worker.command import app
from towpath_worker.process import StartFailed
from towpath_worker.runtime import run_worker

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


@needs_signals
async def test_the_first_signal_drains_and_the_second_releases(tmp_path: Path) -> None:
    async with (
        listening(FakeScheduler()) as scheduler,
        command(tmp_path, "--server", scheduler.address, "--slots", "2", "--label", "room=3") as process,
    ):
        finishing = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
        endless = await scheduler.offer("t.deaf")
        pids = [int(word) for word in (await scheduler.said(endless, "\n")).split()[1:]]
        await scheduler.said(finishing, "waiting")
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        while b"once more" not in await process.stdout.readline():
            pass
        assert not scheduler.heartbeats[0].draining
        await scheduler.until(lambda: scheduler.heartbeats[-1].draining)
        polls = len(scheduler.polls)
        (tmp_path / "go").touch()
        assert (await scheduler.outcome(finishing)).HasField("succeeded")
        assert len(scheduler.polls) == polls, "a draining worker does not poll"
        process.send_signal(signal.SIGTERM)
        assert (await scheduler.outcome(endless)).released.reason == worker_service_pb2.RELEASE_REASON_SHUTDOWN
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert scheduler.deregistrations == 1
        assert not any(map(alive, pids))
        assert dict(scheduler.registrations[0].labels) == {"room": "3"}


@needs_signals
async def test_a_killed_worker_leaves_nothing_that_its_next_life_does_not_end(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as scheduler:
        async with command(tmp_path, "--server", scheduler.address) as process:
            lease = await scheduler.offer("t.deaf")
            child, detached = (int(word) for word in (await scheduler.said(lease, "\n")).split()[1:])
            process.kill()
            await process.wait()
        async with command(tmp_path, "--server", scheduler.address, "--run-once") as process:
            await scheduler.outcome(await scheduler.offer("t.add", x=1))
            assert not alive(child)
            assert not alive(detached)
            assert not scheduler.registrations[1].held_leases
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            assert process.returncode == 0
            for word in (scheduler.address, "wkr_", "t.add", "slots", "data", "towpath workers list"):
                assert word in out.decode()
            assert "secret" not in out.decode()


async def test_a_worker_whose_results_are_not_acked_goes_without_deregistering(
    tmp_path: Path,
) -> None:
    async with listening(FakeScheduler()) as scheduler:
        scheduler.acks = False
        async with working(scheduler, tmp_path, last_words=0.0):
            done = await scheduler.offer("t.add", x=1)
            await scheduler.outcome(done)
        assert scheduler.deregistrations == 0, "a job that is given back takes no result"
        async with working(scheduler, tmp_path, last_words=0.0):
            again = await scheduler.until(lambda: [one for one in scheduler.of(done) if one.HasField("succeeded")][1:])
            assert again
            scheduler.acks = True
            scheduler.ack()
            running = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
            await scheduler.said(running, "waiting")
            scheduler.acks = False
        assert scheduler.deregistrations == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of a running process")
async def test_a_disk_that_takes_no_more_costs_no_outcome_and_is_told_once(tmp_path: Path) -> None:
    import resource

    async with (
        listening(FakeScheduler()) as scheduler,
        command(tmp_path, "--server", scheduler.address) as process,
    ):
        await scheduler.outcome(await scheduler.offer("t.add", x=1))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
        for _ in range(2):
            large = await scheduler.outcome(await scheduler.offer("t.large", size=100_000))
            assert large.HasField("succeeded")
        small = await scheduler.outcome(await scheduler.offer("t.add", x=1))
        assert small.HasField("succeeded")
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        assert errors.decode().count("will not survive a restart: free some space") == 1


@pytest.mark.parametrize(
    ("flags", "token", "words"),
    [
        (["--token", "x"], "secret", "--token-file"),
        ([], None, "TOWPATH_TOKEN"),
        (["--data-dir", "no/such"], "secret", "--data-dir: no/such is not a folder"),
        (["--label", "x"], "secret", "--label: 'x' is not a label: write KEY=VALUE"),
        (["--server", "http://x"], "secret", "HOST:PORT"),
        (["--config", "no/such"], "secret", "no configuration file"),
        (["--slots", "0"], "secret", "--slots: "),
    ],
)
def test_a_wrong_start_ends_with_a_sentence(tmp_path: Path, flags: list[str], token: str | None, words: str) -> None:
    environment = {"TOWPATH_TOKEN": token, "TOWPATH_TOKEN_FILE": None, "XDG_CONFIG_HOME": str(tmp_path)}
    result = CliRunner().invoke(app, flags, env=environment)
    assert result.exit_code == 2
    assert words in result.stderr


def test_help_comes_by_its_short_name_too() -> None:
    assert CliRunner().invoke(app, ["-h"]).exit_code == 0


async def test_handlers_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    for changes, words in (
        ({"handlers": ("no_such_module",)}, "no module 'no_such_module'"),
        ({"handlers": ("this",)}, "Module 'this' makes no function a job type"),
        ({"allow": ("t.nothing",)}, "No handler for t.nothing"),
    ):
        settings = settings_for(FakeScheduler(), tmp_path, **{"server": "127.0.0.1:1", **changes})
        with pytest.raises(StartFailed, match=words):
            await run_worker(settings, stop=asyncio.Event())


async def test_a_refused_token_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as scheduler:
        scheduler.token = "right"
        async with command(tmp_path, "--server", scheduler.address) as process:
            _, errors = await process.communicate()
            assert process.returncode == 3
            assert "does not take this token" in errors.decode()

"""SIGTERM ends both programs well, whoever is still there to read what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import processes
from support.processes import Process
from towpath import Client

JOB_TYPES = ("--handlers", "support.job_types", "--allow", "test.echo")


def stop(process: Process) -> int:
    process.terminate()
    return process.wait(timeout=20)


def read_no_more(process: Process) -> None:
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None


def test_the_scheduler_stops_at_once_though_a_worker_is_connected(tmp_path: Path) -> None:
    with (
        processes.scheduler(tmp_path, "--drain-grace", "3600") as at,
        Client(at.address, at.token) as client,
        processes.worker(at, tmp_path / "worker", *JOB_TYPES) as worker,
    ):
        assert client.submit("test.echo", {"value": 1}).result(timeout=60) == 1
        assert stop(at.process) == 0
        assert worker.poll() is None


def test_both_stop_though_nobody_reads_what_they_say(tmp_path: Path) -> None:
    with processes.scheduler(tmp_path) as at, processes.worker(at, tmp_path / "worker", *JOB_TYPES) as worker:
        for process in (worker, at.process):
            read_no_more(process)
            assert stop(process) == 0


def test_a_worker_starts_though_nobody_reads_its_greeting(tmp_path: Path) -> None:
    with processes.scheduler(tmp_path) as at, Client(at.address, at.token) as client:
        reading, writing = os.pipe()
        os.close(reading)
        words = [sys.executable, "-m", "towpath_worker", "--server", at.address, "--state-dir", str(tmp_path / "state")]
        with subprocess.Popen([*words, *JOB_TYPES], env=at.environment, stdout=writing) as worker:
            os.close(writing)
            assert client.submit("test.echo", {"value": 2}).result(timeout=60) == 2
            worker.terminate()
        assert worker.returncode == 0

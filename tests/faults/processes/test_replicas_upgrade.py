"""An upgrade under load: schedulers of two versions side by side, one after the other replaced, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import towpath_server
from support import processes, stored
from support.crowd import HANDLERS, Crowd
from support.killing import until
from support.postgres import private
from towpath_server.store.postgres.schema import migrations

SETTINGS = ("--log-level", "warning")
PATIENCE = 60.0
# Acknowledged between two steps.
JOBS = 20
EXPAND = "-- oldest reader: {before}\nALTER TABLE jobs ADD COLUMN note text;\nCREATE INDEX jobs_noted ON jobs (note);\n"
CONTRACT = "-- oldest reader: {before}\nALTER TABLE jobs DROP COLUMN note;\n"


def version(folder: Path, *steps: str) -> Path:
    """This program with so many steps more in its schema."""
    package = Path(towpath_server.__file__).parent
    copied = shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    newest = migrations()[-1].version
    for before, step in enumerate(steps, newest):
        name = f"{before + 1:04}_step_{before + 1 - newest}.sql"
        (copied / "store" / "postgres" / "migrations" / name).write_text(step.format(before=before), encoding="utf-8")
    return folder


def program(folder: Path | None, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `towpath-server` of that version to its end."""
    environment = processes.on_store(url)
    if folder is not None:
        environment["PYTHONPATH"] = f"{folder}{os.pathsep}{environment['PYTHONPATH']}"
    command = [sys.executable, "-m", "towpath_server", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def migrated(folder: Path, url: str) -> tuple[int, Any]:
    """How `towpath-server migrate` of that version ends, and what it says."""
    done = program(folder, url, "migrate", "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_schedulers_of_two_versions_work_side_by_side_and_nothing_is_lost_on_the_way(tmp_path: Path) -> None:
    new, newest = version(tmp_path / "new", EXPAND), version(tmp_path / "newest", EXPAND, CONTRACT)
    before = migrations()[-1].version
    with ExitStack() as stack:
        server = private()
        stack.callback(server.remove)
        url = server.url(server.database(), tcp=True)
        addresses = processes.free_addresses(4)
        lives = [ExitStack() for _ in addresses]
        for life in lives:
            stack.enter_context(life)

        def begin(number: int, version: Path | None) -> processes.Scheduler:
            folder = tmp_path / f"replica-{number}"
            folder.mkdir()
            shared_config = ("--config-dir", str(tmp_path / "config"))
            return lives[number].enter_context(
                processes.replica(folder, url, *SETTINGS, *shared_config, listen=addresses[number], program=version)
            )

        at = begin(0, None)
        begin(1, None)
        token = (tmp_path / "config" / "token").read_text(encoding="utf-8").strip()
        everywhere = processes.Scheduler(",".join(addresses), tmp_path / "config", at.process)
        stack.enter_context(processes.worker(everywhere, tmp_path / "worker", *HANDLERS, "--slots", "4"))
        crowd = Crowd(tmp_path, everywhere.address, token, seed=1, batch=20)
        stack.callback(crowd.shared.stop.set)
        crowd.start()

        def more() -> None:
            acknowledged, ran = crowd.progress()
            crowd.want(acknowledged + JOBS)
            assert until(lambda: crowd.progress() > (acknowledged + JOBS, ran), PATIENCE)

        more()
        # Old ones run: what they could not work with is held back.
        code, said = migrated(newest, url)
        assert (code, said["schema"], len(said["applied"]), len(said["held_back"])) == (1, before + 1, 1, 1)
        more()
        for number in (0, 1):
            begin(2 + number, new)
            more()
            lives[number].close()
            more()
        code, said = migrated(newest, url)
        assert (code, said["schema"], len(said["applied"]), said["held_back"]) == (0, before + 2, 1, [])
        more()
        refused = program(None, url, "--listen", "127.0.0.1:0", "--config-dir", str(tmp_path / "late"))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "was written by a newer Towpath" in refused.stderr
        assert server.url("", tcp=True).rpartition("@")[0].rpartition(":")[2] not in refused.stderr
        crowd.settle()
        broken = crowd.broken(stored.in_database(url))
        if broken:
            broken.append(f"Evidence: {crowd.keep(broken)}")
        assert not broken, "\n".join(broken[-20:])

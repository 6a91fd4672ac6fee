"""Files of every earlier release are taken up whole; a file that is not a sound store of ours is refused and left."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from support.stage import START, Hands, Stage, stage
from towpath_server.core.events import Succeeded
from towpath_server.core.job import DAY, SECOND, Job, JobState
from towpath_server.core.records import ModelRecord, Principal, Queue, Quota, Replica, Role, Token, Worker
from towpath_server.scheduler.messages import Registration, Report
from towpath_server.store.base import Matching, Record, Recorded, StoreRefused
from towpath_server.store.sqlite import SqliteStore
from towpath_server.store.sqlite.schema import migrations

DATA = Path(__file__).parents[1] / "data"
STORED = sorted(DATA.glob("store-*.sqlite"))
NEWEST = migrations()[-1].version
# In the order in which they are read below.
KINDS: tuple[type[Record], ...] = (Token, Queue, Worker, ModelRecord, Replica, Quota)


def _make_store() -> Any:
    spec = importlib.util.spec_from_file_location("make_store", DATA / "make_store.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MAKE = _make_store()


@pytest.fixture(params=STORED, ids=lambda path: path.stem)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a file that an earlier release wrote."""
    return Path(shutil.copy(request.param, tmp_path / "towpath.db"))


def version(path: Path) -> int:
    """The schema that a file says it has."""
    return int.from_bytes(path.read_bytes()[60:64], "big")


def test_a_file_of_every_earlier_schema_is_kept() -> None:
    versions = [int(path.stem.removeprefix("store-")) for path in STORED]
    assert versions[: NEWEST - 1] == list(range(1, NEWEST)), "see tests/data/README.md"
    assert [version(path) for path in STORED] == versions


def unnumbered(job: Job) -> Job:
    """The job without the number that its migration gave it."""
    return replace(job, sequence=0)


def read(store: SqliteStore) -> dict[str, list[Any]]:
    """All that a store holds."""
    jobs = [job for tenant in ("acme", "evil") for job in store.find(Matching(tenant=tenant, ascending=True), 1000)]
    pairs = [(job.job_id, attempt) for job in jobs for attempt in range(1, 10)]
    return {
        "lanes": list(store.lanes()),
        "jobs": jobs,
        "attempts": [one for job in jobs for one in store.attempts(job.job_id)],
        "logs": [one for job_id, attempt in pairs for one in store.logs(job_id, attempt, 0, 1000)],
        "records": [
            *(*store.records(Token), *store.records(Queue), *store.records(Worker), *store.records(ModelRecord)),
            *(*store.records(Replica), *store.records(Quota)),
        ],
        "audit": store.audit(Recorded(), 1000)[::-1],
    }


def by_id(jobs: list[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: job.job_id)


def test_all_that_was_written_is_read_and_the_same_twice(stored: Path) -> None:
    written = MAKE.contents(version(stored))
    store = SqliteStore(stored)
    first = read(store)
    store.close()
    for field in fields(written):
        if field.name not in ("jobs", "records"):
            assert first[field.name] == list(getattr(written, field.name)), field.name
    assert first["records"] == [one for kind in KINDS for one in written.records if type(one) is kind]
    assert [unnumbered(job) for job in by_id(first["jobs"])] == [unnumbered(job) for job in by_id(list(written.jobs))]
    sequences = {job.sequence for job in first["jobs"]}
    assert min(sequences) > 0
    assert len(sequences) == len(first["jobs"])
    again = SqliteStore(stored)
    assert read(again) == first
    again.close()
    assert version(stored) == NEWEST


def test_what_is_written_today_is_read_too(tmp_path: Path) -> None:
    MAKE.write(tmp_path / "towpath.db")
    store = SqliteStore(tmp_path / "towpath.db")
    assert by_id(read(store)["jobs"]) == by_id(list(MAKE.contents(NEWEST).jobs))
    store.close()


def principal(tenant: str, user: str) -> Principal:
    return Principal(1, tenant, user, Role.ADMIN)


USERS = [principal("acme", "ada"), principal("acme", "bob"), principal("evil", "eve")]


async def test_every_job_of_an_old_file_ends(stored: Path) -> None:
    before = {job.job_id: job.state for job in MAKE.contents(version(stored)).jobs}
    async with stage(SqliteStore(stored), Hands(now=START)) as s:
        # The sessions of before are over: what they held waits again.
        await s.tick(16)
        await s.scheduler.queues.resume(USERS[1], "held")
        for job_id, state in before.items():
            if state is JobState.PAUSED:
                await s.scheduler.jobs.resume(USERS[0], job_id)
        await run_all(s)
        # And what was to begin later.
        await s.tick(2 * DAY / SECOND)
        await run_all(s)
    store = SqliteStore(stored)
    after = {job.job_id: job.state for job in read(store)["jobs"]}
    store.close()
    assert after == {job_id: in_the_end(state) for job_id, state in before.items()}


def in_the_end(state: JobState) -> JobState:
    if state is JobState.CANCELLING:
        return JobState.CANCELLED
    return state if state.is_final else JobState.SUCCEEDED


async def run_all(s: Stage) -> None:
    """Workers of every user, as the file knows them or new, finish what is there for them."""
    for who in USERS:
        known = who.user == "ada"
        asked = Registration(
            worker_id=MAKE.BOX.worker_id if known else None,
            name="box",
            slots=100,
            job_types=MAKE.BOX.job_types,
            labels=MAKE.BOX.labels,
            machine=MAKE.BOX.machine,
            models=(MAKE.DELAYS,) if known else (),
        )
        registered = await s.scheduler.workers.register(who, asked)
        stream = s.scheduler.workers.connect(who, registered.worker_id, registered.session_id)
        sequence = 0
        while jobs := await s.lease(registered, 100, who=who):
            reports = [
                Report(sequence + 1 + n, one.job_id, Succeeded(one.last_token, b"")) for n, one in enumerate(jobs)
            ]
            sequence = await stream.report(reports)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {NEWEST + 1}")


def newer_and_killed(path: Path) -> None:
    """The newer program died: its last commit is in the log beside the file."""
    script = f"""
import os, sqlite3
other = sqlite3.connect({str(path)!r}, isolation_level=None)
other.execute("PRAGMA user_version = {NEWEST + 1}")
other.execute("UPDATE workers SET version = 'of tomorrow'")
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", script])
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def without_its_name(path: Path) -> None:
    flip(path, 3)


def with_a_wrong_page_size(path: Path) -> None:
    flip(path, 16)


def with_a_wrong_root_page(path: Path) -> None:
    """The kind of the first b-tree's page, behind the header."""
    flip(path, 100)


def with_a_wrong_tree_page(path: Path) -> None:
    """The kind of a page of the jobs."""
    with closing(sqlite3.connect(path)) as other:
        (root,) = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'").fetchone()
    flip(path, (root - 1) * 4096)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE jobs (job_id)")


def text(path: Path) -> None:
    path.write_text("not a database, but long enough to look like one " * 100, encoding="utf-8")


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (old,) = file.read(1)
        file.seek(place)
        file.write(bytes([old ^ 0xFF]))


DAMAGE = (
    without_its_name,
    with_a_wrong_page_size,
    with_a_wrong_root_page,
    with_a_wrong_tree_page,
    truncated,
    torn,
    text,
)
REFUSALS: dict[Callable[[Path], None], str] = {
    newer: rf"newer Towpath \(schema {NEWEST + 1}, this one knows {NEWEST}\). Start that version again",
    newer_and_killed: "newer Towpath",
    of_another_program: "the database of another program. Choose another path",
    **dict.fromkeys(DAMAGE, r"restore a backup \(towpath-server restore\), or move it away"),
}


def contents(path: Path) -> list[bytes]:
    """The file and its log; one that is empty holds what one that is not there holds."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return [file.read_bytes() if file.exists() else b"" for file in files]


@pytest.mark.parametrize("spoil", REFUSALS, ids=lambda spoil: spoil.__name__)
def test_what_is_no_sound_store_of_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "towpath.db"
    MAKE.write(path)
    spoil(path)
    before = contents(path)
    for _ in range(2):
        with pytest.raises(StoreRefused, match=REFUSALS[spoil]) as refused:
            SqliteStore(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert contents(path) == before


def test_a_migration_that_is_killed_half_way_leaves_the_old_file_good(stored: Path) -> None:
    old = version(stored)
    # The first statement of the last step is carried out, then comes a question that is never answered.
    script = f"""
import os, sqlite3, sys, threading
from pathlib import Path
from towpath_server.store.sqlite import schema
from towpath_server.store.sqlite import SqliteStore
half = schema.Migration({NEWEST + 1}, "half", "DELETE FROM logs; CREATE TABLE half (x); SELECT die();")
steps = (*schema.migrations(), half)
schema.migrations = lambda: steps
connect = sqlite3.connect
def with_death(*words, **others):
    opened = connect(*words, **others)
    # Small, so that the pages of the step are in the log when it dies.
    opened.execute("PRAGMA cache_size = 1")
    opened.create_function("die", 0, lambda: os.kill(os.getpid(), 9))
    return opened
sqlite3.connect = with_death
SqliteStore(Path({str(stored)!r}))
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with closing(sqlite3.connect(stored)) as looked:
        assert looked.execute("PRAGMA user_version").fetchone() == (old,)
        assert looked.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)
    store = SqliteStore(stored)
    held = read(store)
    assert held["logs"] == list(MAKE.contents(old).logs)
    assert len(held["jobs"]) == len(MAKE.contents(old).jobs)
    store.close()

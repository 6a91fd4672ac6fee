"""A store that is taken elsewhere is there whole, or not at all; and what would lose something is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import processes
from support.postgres import psycopg, shared
from support.store_samples import NOW, fill, job, lane
from support.whole_stores import make_store, read
from towpath_server.core.ids import moment
from towpath_server.core.job import Attempt, AttemptOutcome, Job, JobState
from towpath_server.core.records import LogChunk, Replica, Worker
from towpath_server.store import moving
from towpath_server.store.archive import Archive, Target
from towpath_server.store.base import Store, StoreRefused
from towpath_server.store.postgres import PostgresStore, schema
from towpath_server.store.postgres import archive as postgres
from towpath_server.store.sqlite import SqliteStore
from towpath_server.store.sqlite import archive as sqlite

MAKE = make_store()
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.fixture
def url() -> Iterator[str]:
    """Of an empty database."""
    name = shared().database()
    yield shared().url(name)
    shared().drop(name)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A file with something of everything."""
    MAKE.write(tmp_path / "towpath.db")
    return tmp_path / "towpath.db"


def move(source: Path | str, target: Path | str) -> moving.Contents:
    """A move without words."""
    with opened(source) as one, taking(target) as other:
        return moving.move(one, other, lambda done, whole: None)


def opened(place: Path | str) -> Any:
    return sqlite.source(place) if isinstance(place, Path) else postgres.source(place)


def taking(place: Path | str) -> Any:
    return sqlite.target(place) if isinstance(place, Path) else postgres.target(place)


def held(place: Path | str) -> dict[str, list[Any]]:
    """All that a store holds; it can be opened."""
    store: Store = SqliteStore(place) if isinstance(place, Path) else PostgresStore(place)
    with closing(store):
        return read(store)


def at_rest(contents: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same with the sessions of workers on no scheduler."""
    records = [replace(one, replica_id=0) if isinstance(one, Worker) else one for one in contents["records"]]
    return {**contents, "records": records}


def test_everything_goes_there_and_back(made: Path, url: str) -> None:
    before = at_rest(held(made))
    assert len(before["jobs"]) == len(MAKE.JOBS)
    there = move(made, url)
    assert held(url) == before
    with closing(PostgresStore(url)) as store:
        assert store.records(Replica) == []
    back = made.with_name("back.db")
    assert move(url, back).digest == there.digest
    assert held(back) == before
    assert held(made)["jobs"] == before["jobs"]
    assert there.counts["jobs"] == sum(there.states.values()) == len(MAKE.JOBS)


def test_an_empty_store_moves_too(tmp_path: Path, url: str) -> None:
    SqliteStore(tmp_path / "towpath.db").close()
    move(tmp_path / "towpath.db", url)
    assert not held(url)["jobs"]
    move(url, tmp_path / "back.db")
    assert not held(tmp_path / "back.db")["jobs"]


@st.composite
def wholes(draw: st.DrawFn) -> tuple[list[Job], list[Attempt], list[LogChunk]]:
    """Jobs of all kinds with their attempts and logs."""
    job_ids = draw(st.lists(st.integers(1, (1 << 63) - 1), unique=True, max_size=12))
    sequences = draw(st.permutations(range(1, len(job_ids) + 1)))
    jobs = [
        job(
            job_id,
            draw(st.sampled_from(JobState)),
            sequence=sequence,
            queue_time=NOW,
            state_reason=draw(TEXT),
            spec=draw(st.binary(max_size=300)),
            labels=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
            request_id=draw(st.sampled_from(["", f"request {job_id}"])),
            dedupe_key=draw(st.sampled_from(["", f"key {job_id}"])),
        )
        for job_id, sequence in zip(job_ids, sequences, strict=True)
    ]
    attempts = [
        Attempt(one.job_id, number, 7, NOW, NOW, NOW, AttemptOutcome.LOST)
        for one in jobs
        for number in range(1, draw(st.integers(0, 4)) + 1)
    ]
    logs: dict[tuple[int, int], LogChunk] = {}
    for one in jobs:
        offset = 0
        for text in draw(st.lists(TEXT.filter(bool), max_size=3)):
            logs[one.job_id, offset] = LogChunk(
                job_id=one.job_id, attempt=1, offset=offset, text=text, stream=1, time=NOW
            )
            offset += len(text.encode())
    return jobs, attempts, list(logs.values())


@given(wholes(), st.integers(1, 3), st.integers(1, 1000))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_contents_arrive_on_pages_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    contents: tuple[list[Job], list[Attempt], list[LogChunk]],
    most_rows: int,
    most_bytes: int,
) -> None:
    jobs, attempts, logs = contents
    folder = tmp_path_factory.mktemp("moved")
    name = shared().database()
    with closing(SqliteStore(folder / "towpath.db")) as store:
        fill(store, jobs)
        with store.transaction():
            store.save([], attempts)
            store.append_logs(logs)
    before = held(folder / "towpath.db")
    assert (len(before["jobs"]), len(before["attempts"]), len(before["logs"])) == (len(jobs), len(attempts), len(logs))
    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite, postgres, moving):
            patch.setattr(module, "PAGE_ROWS", most_rows)
        patch.setattr("towpath_server.store.archive.PAGE_BYTES", most_bytes)
        move(folder / "towpath.db", shared().url(name))
        assert held(shared().url(name)) == before
        move(shared().url(name), folder / "back.db")
    assert held(folder / "back.db") == before
    shared().drop(name)
    shutil.rmtree(folder)


def test_a_page_holds_no_more_than_fits_into_memory(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towpath_server.store.archive.PAGE_BYTES", 10_000)
    path = tmp_path / "towpath.db"
    with closing(SqliteStore(path)) as store:
        fill(store, [job(one, spec=b"x" * 4_000) for one in range(1, 8)])
    move(path, url)
    for place in (path, url):
        with opened(place) as archive:
            pages = [page for page in moving.pages(archive) if page.part == "jobs"]
        assert [len(page.rows) for page in pages] == [2, 2, 2, 1]


def test_changes_go_on_above_all_that_was_told_on_the_other_side(tmp_path: Path, url: str) -> None:
    path, back = tmp_path / "towpath.db", tmp_path / "back.db"
    with closing(SqliteStore(path)) as store:
        fill(store, [job(1, sequence=NOW)])
        told = store.sequence(NOW + 5)
        with store.transaction():
            store.delete([1])
    move(path, url)
    told = next_sequence(url, told)
    move(url, back)
    told = next_sequence(back, told)
    again = shared().database()
    move(back, shared().url(again))
    next_sequence(shared().url(again), told)
    # The numbers are no times any more, and ids must be.
    with closing(SqliteStore(back)) as store:
        fill(store, [job(NOW // 1000 << 21, of=lane(2, queue="night"))], [lane(2, queue="night")])
        assert store.origin(NOW - 10**9).moment == moment(NOW // 1000 << 21) + 1000
        assert store.origin(NOW + 10**9).moment == NOW + 10**9


def next_sequence(place: Path | str, told: int) -> int:
    store: Store = SqliteStore(place) if isinstance(place, Path) else PostgresStore(place)
    with closing(store), store.transaction():
        number = store.sequence(NOW)
        assert number > told
    return number


def refusal(source: Path | str, target: Path | str) -> str:
    with pytest.raises(StoreRefused) as refused:
        move(source, target)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_source_that_is_none_is_refused(tmp_path: Path, made: Path, url: str) -> None:
    assert "There is no file" in refusal(tmp_path / "nothing.db", url)
    (tmp_path / "empty.db").touch()
    assert "is empty" in refusal(tmp_path / "empty.db", url)
    (tmp_path / "text.db").write_text("not a store " * 1000, encoding="utf-8")
    assert "cannot be used as a store" in refusal(tmp_path / "text.db", url)
    assert "is empty" in refusal(url, tmp_path / "new.db")
    assert schema.examine(schema.read(url)) == 0
    run(url, "CREATE TABLE strangers (id int)")
    assert "another program" in refusal(url, tmp_path / "new.db")
    assert "another program" in refusal(made, url)
    assert not (tmp_path / "new.db").exists()


def test_a_source_in_use_is_refused(made: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(made)):
        assert "in use by another scheduler" in refusal(made, url)
    move(made, url)
    new = made.with_name("new.db")
    with closing(PostgresStore(url)):
        assert "in use by schedulers" in refusal(url, new)
    # One whose address gives it another name is known by its beats.
    with beating(f"{url}&application_name=mine"):
        assert "in use by schedulers" in refusal(url, new)
    assert not new.exists()
    # That one died: it is silent.
    monkeypatch.setattr(postgres, "_SILENT_SECONDS", 0.3)
    move(url, new)


@contextmanager
def beating(url: str) -> Iterator[None]:
    """A scheduler that lives while the block runs, and dies with it."""
    with closing(PostgresStore(url)) as store, ThreadPoolExecutor(1) as threads:
        stopped: list[bool] = []

        def beat() -> None:
            number = 0
            while not stopped:
                number += 1
                with store.transaction():
                    store.put([Replica(replica_id=1, life="one", beat=number, start_time=NOW)])

        beats = threads.submit(beat)
        with closing(store.reader()) as reader:
            while not reader.records(Replica):
                assert not beats.done()
        try:
            yield
        finally:
            stopped.append(True)
            beats.result()


def test_a_target_that_holds_something_is_left_as_it_is(made: Path, url: str) -> None:
    taken = made.with_name("taken.db")
    shutil.copy(made, taken)
    content = taken.read_bytes()
    assert "is there already" in refusal(made, taken)
    assert taken.read_bytes() == content
    log = made.with_name("new.db-wal")
    log.write_bytes(b"of another one")
    assert "is there already" in refusal(made, made.with_name("new.db"))
    assert "in use by" in refusal(made, made)
    move(made, url)
    before = held(url)
    assert "holds a store already" in refusal(made, url)
    assert held(url) == before


def test_a_target_in_which_its_user_may_make_nothing_is_named(made: Path, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner")
    assert "Make its user the owner" in refusal(made, url)


def test_nobody_writes_to_a_source_while_it_moves(made: Path, url: str, tmp_path: Path) -> None:
    move(made, url)
    with opened(url) as archive:
        assert archive.size() > 0
        # A scheduler that stood still, and wakes up.
        with psycopg.connect(url, autocommit=True) as late:
            late.execute("SET lock_timeout = '50ms'")
            for sql in (b"UPDATE jobs SET state_reason = 'late'", b"DELETE FROM replicas", b"DELETE FROM logs"):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    late.execute(sql)


def test_a_scheduler_that_opens_a_target_too_early_gets_all_of_it(made: Path, url: str) -> None:
    before = at_rest(held(made))
    with ThreadPoolExecutor(1) as threads:
        with opened(made) as source, taking(url) as target:
            early = threads.submit(PostgresStore, url)
            moving.move(source, target, lambda done, whole: None)
            assert not early.done()
        with closing(early.result()) as store:
            assert read(store) == before


class Forgetful:
    """A target that keeps something else than it is given."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.page = target.page
        self.go_on_above = target.go_on_above
        self.store: Any = self
        self._whole = target.store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def append_logs(self, chunks: list[LogChunk]) -> None:
        """All but the last letter."""
        self._whole.append_logs([replace(one, text=f"{one.text[:-1]}?") for one in chunks])

    def written(self) -> Archive:
        """See `Target`."""
        return self._target.written()


def test_what_arrives_otherwise_is_found_out_and_nothing_stays(made: Path, url: str) -> None:
    new = made.with_name("new.db")
    for place in (url, new):
        with (
            pytest.raises(StoreRefused, match="not what was read"),
            opened(made) as source,
            taking(place) as target,
        ):
            moving.move(source, Forgetful(target), lambda done, whole: None)
    assert schema.examine(schema.read(url)) == 0
    assert not new.exists()
    assert not [*made.parent.glob("*.moving*")]


def test_a_database_that_goes_away_is_named_and_nothing_stays(made: Path, url: str) -> None:
    new = made.with_name("new.db")
    place = f"{url}&password=s3cr3t"
    for source, target in ((made, place), (place, new)):
        with (
            pytest.raises(
                StoreRefused, match=r"test_\d+ .*Nothing was moved; (see to it, and )?run this again"
            ) as refused,
            opened(source) as one,
            taking(target) as other,
        ):
            moving.move(one, other, lambda done, whole: cut(url))
        assert "s3cr3t" not in str(refused.value)
        if source == made:
            assert schema.examine(schema.read(url)) == 0
            move(made, url)
    assert not new.exists()
    assert not [*made.parent.glob("*.moving*")]


def cut(url: str) -> None:
    """End all connections of Towpath's, as an administrator does."""
    run(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE application_name LIKE 'towpath/%' AND datname = current_database()",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_a_move_that_is_killed_anywhere_leaves_nothing_or_all(tmp_path: Path, url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.killed_move", str(tmp_path), url],
        env=processes.clean(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def run(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())

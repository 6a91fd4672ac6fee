"""What is still to be told: numbered, joined, kept on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath_worker import journal as journal_module
from towpath_worker import outbox as outbox_module
from towpath_worker.logs import LogBook
from towpath_worker.outbox import Outbox
from towpath_worker.spool import Spool

Report = worker_service_pb2.Report
OUT = job_service_pb2.LOG_STREAM_STDOUT
ERR = job_service_pb2.LOG_STREAM_STDERR


def progress(job: str, percent: float) -> Report:
    return Report(job_id=job, lease_token="t", progress=job_pb2.Progress(percent=percent))


def log(job: str, offset: int, text: str, stream: job_service_pb2.LogStream.ValueType = OUT) -> Report:
    return Report(job_id=job, lease_token="t", log=worker_service_pb2.LogChunk(offset=offset, text=text, stream=stream))


def started(job: str) -> Report:
    return Report(job_id=job, lease_token="t", started=worker_service_pb2.Started())


def done(job: str, size: int = 0) -> Report:
    result = job_pb2.JobResult()
    result.custom.value.string_value = "x" * size
    return Report(job_id=job, lease_token="t", succeeded=worker_service_pb2.Succeeded(result=result))


def on_disk(path: Path) -> list[str]:
    """What the next start would send."""
    with closing(Spool(path)) as spool:
        return [one.job_id for one in spool.load() if one.HasField("succeeded")]


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    outbox = Outbox(Spool(tmp_path / "spool"))
    yield outbox
    outbox.close()


def events(reports: list[Report]) -> list[tuple[int, str, str]]:
    return [(one.sequence, one.job_id, one.WhichOneof("event") or "") for one in reports]


async def test_waiting_progress_is_replaced_and_waiting_logs_are_joined(outbox: Outbox) -> None:
    for report in (started("a"), progress("a", 1), log("a", 0, "x"), log("a", 1, "y"), progress("b", 5)):
        outbox.add(report)
    for report in (progress("a", 2), log("a", 2, "z", ERR), done("a")):
        outbox.add(report)
    batch = outbox.take()
    assert events(batch) == [
        (1, "a", "started"),
        (2, "a", "progress"),
        (3, "a", "log"),
        (4, "b", "progress"),
        (5, "a", "log"),
        (6, "a", "succeeded"),
    ]
    assert batch[1].progress.percent == 2
    assert (batch[2].log.text, batch[4].log.offset) == ("xy", 2)
    assert outbox.take() == []
    outbox.add(progress("a", 3))
    assert events(outbox.take()) == [(7, "a", "progress")]


async def test_a_new_stream_gets_the_unacked_under_their_numbers_and_a_new_session_from_one(outbox: Outbox) -> None:
    for job in "abc":
        outbox.add(done(job))
    assert len(outbox.take()) == 3
    outbox.acked(1)
    outbox.rewind()
    assert events(outbox.take()) == [(2, "b", "succeeded"), (3, "c", "succeeded")]
    outbox.renumber()
    assert events(outbox.take()) == [(1, "b", "succeeded"), (2, "c", "succeeded")]
    assert outbox.held() == {("b", "t"), ("c", "t")}
    outbox.acked(2)
    assert outbox.empty
    assert not outbox.held()


async def test_messages_and_the_window_of_the_unacked_are_bounded(outbox: Outbox) -> None:
    size = 900_000
    for number in range(20):
        outbox.add(done(str(number), size))
    batches = []
    while batch := outbox.take():
        batches.append(batch)
    assert all(len(batch) == 1 for batch in batches)
    assert len(batches) * size < outbox_module.WINDOW_BYTES + 2 * size
    outbox.acked(batches[-1][-1].sequence)
    assert outbox.take()


async def test_one_invalid_report_does_not_hold_up_the_others(outbox: Outbox) -> None:
    for job in "abc":
        outbox.add(done(job))
    outbox.take()
    outbox.refused()
    outbox.rewind()
    assert events(outbox.take()) == [(1, "a", "succeeded")], "one by one, to find the guilty one"
    assert outbox.take() == []
    outbox.refused()
    outbox.rewind()
    assert events(outbox.take()) == [(1, "a", "failed")]
    outbox.acked(1)
    assert events(outbox.take()) == [(2, "b", "succeeded"), (3, "c", "succeeded")]


async def test_what_is_abandoned_is_forgotten_also_on_disk(outbox: Outbox, tmp_path: Path) -> None:
    outbox.add(done("a"))
    outbox.add(done("b"))
    outbox.drop(("a", "t"))
    assert on_disk(tmp_path / "spool") == ["b"]
    assert events(outbox.take()) == [(1, "b", "succeeded")]
    assert outbox.held() == {("b", "t")}
    outbox.drop(("b", "t"))
    assert outbox.held() == {("b", "t")}, "it is sent: the ack decides"
    outbox.acked(1)
    outbox.add(done("c"))
    outbox.drop(("c", "t"))
    assert (tmp_path / "spool").stat().st_size == 0


async def test_what_is_kept_through_its_ack_holds_up_nothing_and_is_sent_again_by_the_next_start(
    outbox: Outbox, tmp_path: Path
) -> None:
    for job in "abc":
        outbox.add(done(job))
    outbox.take()
    outbox.keep(("b", "t"))
    outbox.acked(3)
    assert outbox.empty
    assert not outbox.owes_results
    outbox.renumber()
    assert outbox.take() == []
    outbox.drop(("b", "t"))
    assert outbox.held() == {("b", "t")}
    assert "b" in on_disk(tmp_path / "spool")
    outbox.add(done("d"))
    outbox.drop(("d", "t"))
    assert on_disk(tmp_path / "spool") == ["b"]
    outbox.let_go(("b", "t"))
    assert outbox.held() == set()
    assert (tmp_path / "spool").stat().st_size == 0


async def test_outcomes_and_their_logs_survive_a_restart(tmp_path: Path) -> None:
    first = Outbox(Spool(tmp_path / "spool"))
    for report in (started("a"), log("a", 0, "text"), progress("a", 1), done("a"), started("b"), log("b", 0, "lost")):
        first.add(report)
    first.take()
    first.close()
    second = Outbox(Spool(tmp_path / "spool"))
    assert events(second.take()) == [(1, "a", "started"), (2, "a", "log"), (3, "a", "succeeded")]
    second.acked(3)
    second.close()
    assert (tmp_path / "spool").stat().st_size == 0


async def test_the_spool_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 10_000)
    spool = Spool(tmp_path / "spool")
    outbox = Outbox(spool)
    for number in range(40):
        outbox.add(done(str(number), 1000))
        outbox.take()
        # One is always unacked, so that the file is never simply emptied.
        outbox.acked(number)
    assert spool.size < 12_000
    assert [one.job_id for one in spool.load()][-1] == "39"
    outbox.close()


@given(cut=st.integers(0, 200), flip=st.none() | st.integers(0, 100))
def test_a_damaged_spool_gives_what_stands_before_the_damage(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int | None
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool"
    spool = Spool(path)
    written = [done(str(number)) for number in range(5)]
    spool.append(written)
    data = bytearray(path.read_bytes()[: spool.size - cut] if cut else path.read_bytes())
    if flip is not None and flip < len(data):
        data[flip] ^= 0xFF
    path.write_bytes(data)
    read = spool.load()
    spool.close()
    assert read == written[: len(read)]
    if not cut and flip is None:
        assert read == written


@given(st.lists(st.tuples(st.sampled_from([OUT, ERR]), st.binary(max_size=40)), max_size=30))
def test_log_offsets_join_for_any_bytes(writes: list[tuple[job_service_pb2.LogStream.ValueType, bytes]]) -> None:
    chunks: list[worker_service_pb2.LogChunk] = []
    book = LogBook(chunks.append)
    for stream, data in writes:
        book.write(stream, data)
    book.close()
    at = 0
    for chunk in chunks:
        assert chunk.offset == at
        at += len(chunk.text.encode())
    for stream in (OUT, ERR):
        text = "".join(chunk.text for chunk in chunks if chunk.stream == stream)
        assert text == b"".join(data for at, data in writes if at == stream).decode("utf-8", "replace")


def test_what_comes_after_a_cut_off_record_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(path)
    spool.append([done("a"), done("b")])
    spool.close()
    path.write_bytes(path.read_bytes()[:-3])
    for job in "cd":
        spool = Spool(path)
        spool.append([done(job)])
        spool.close()
    spool = Spool(path)
    assert [one.job_id for one in spool.load()] == ["a", "c", "d"]
    spool.close()


FULL_DISK = """
import asyncio, logging, resource, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from worker.test_spool import Outbox, Spool, done
logging.basicConfig(format="%(levelname)s %(message)s", level="INFO")

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))

async def main():
    path = Path({path!r})
    outbox = Outbox(Spool(path))
    outbox.add(done("a", 1000))
    limit(3000)
    for job in "bcd":
        outbox.add(done(job, 1000))
    print("on disk", *(one.job_id for one in Spool(path).load()))
    print("sent", *(one.job_id for one in outbox.take()))
    outbox.acked(1)
    print("held", *sorted(job for job, _ in outbox.held()))
    limit(-1)
    outbox.add(done("e", 1000))
    print("on disk again", *(one.job_id for one in Spool(path).load()))

asyncio.run(main())
"""


def test_on_a_full_disk_outcomes_are_kept_in_memory_and_that_is_said_once(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="limits the size of files as POSIX does")
    script = FULL_DISK.format(tests=str(Path(__file__).parents[1]), path=str(tmp_path / "spool"))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["on disk a b", "sent a b c d", "held b c d", "on disk again b c d e"], ran.stderr
    errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "will not survive a restart: free some space" in errors[0]
    assert 'INFO event="outcomes are kept on disk again"' in ran.stderr

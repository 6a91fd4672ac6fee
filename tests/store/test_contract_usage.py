"""What every store says that each user has."""

from __future__ import annotations

from dataclasses import replace

from support.store_samples import after, at, fill, job, lane
from towpath_server.core.job import JobState
from towpath_server.core.quotas import Use
from towpath_server.core.records import LogChunk
from towpath_server.store.base import Store

S = JobState
ANN, BOB, EVE = ("acme", "ann"), ("acme", "bob"), ("evil", "ann")


def log(job_id: int, text: str, offset: int = 0) -> LogChunk:
    return LogChunk(job_id=job_id, attempt=1, offset=offset, text=text, stream=1, time=0)


def test_each_user_has_what_is_alive_and_what_is_kept(store: Store) -> None:
    second, bob, evil = lane(2, queue="other"), lane(3, user="bob"), lane(4, tenant="evil")
    waiting = [job(1, S.SCHEDULED), job(2), job(3, S.PAUSED, of=second)]
    running = [job(4, S.LEASED), job(5, S.RUNNING, of=second), job(6, S.CANCELLING)]
    over = [job(7, S.SUCCEEDED, result=b"\x00" * 20_000), job(8, S.FAILED), job(9, S.SUCCEEDED, of=bob, result=b"")]
    fill(store, [*waiting, *running, *over, job(10, of=evil)], [lane(), second, bob, evil])
    with store.transaction():
        store.append_logs([log(4, "é" * 1000), log(4, "more", 2000), log(8, "é" * 1000), log(9, "bob's")])
    assert store.usage() == {ANN: Use(3, 3), EVE: Use(1)}
    with_sizes = {ANN: Use(3, 3, 20_000, 4004), EVE: Use(1), BOB: Use(log_bytes=5)}
    assert store.usage(sizes=True) == with_sizes
    reader = store.reader()
    assert reader.usage(sizes=True) == with_sizes
    with store.transaction():
        store.save([after(at(running[0], S.SUCCEEDED, result=b"1234")), replace(running[1], revision=2)])
        store.delete([7, 8, 10])
        # What is inside a transaction sees what it has changed.
        assert store.usage(sizes=True) == {ANN: Use(3, 2, 4, 2004), BOB: Use(log_bytes=5)}
    assert reader.usage() == {ANN: Use(3, 2)}
    reader.close()

"""What every store does with small records, lanes and logs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.store_samples import NOW, fill, job, lane
from towpath_server.core.job import Requirements
from towpath_server.core.records import Gpu, LogChunk, Machine, ModelRecord, Queue, Role, Token, Worker
from towpath_server.store.base import IntegrityViolation, Record, Store

TOKEN = Token(token_id=1, secret_hash="ab", name="laptop", tenant="acme", user="ann", role=Role.WORKER, create_time=NOW)
QUEUE = Queue(tenant="acme", name="slow", create_time=NOW)
WORKER = Worker(
    worker_id=3,
    name="box",
    tenant="acme",
    user="ann",
    slots=4,
    job_types=("train", "predict"),
    labels={"zone": "ü"},
    machine=Machine(cpu_count=8, memory_mb=1, gpus=(Gpu("H100", 80_000), Gpu("", 0)), hostname="h", platform="p"),
    create_time=NOW,
    connect_time=NOW + 1,
    session_id="s",
)
MODEL = ModelRecord(
    model_id=5,
    worker_id=3,
    tenant="acme",
    user="ann",
    name="late",
    version=2,
    model_type="xgboost",
    task_type=1,
    create_time=NOW,
    body=b"\x00\xff",
)
ONE_OF_EACH: tuple[Record, ...] = (TOKEN, QUEUE, WORKER, MODEL)
CHANGED: tuple[Record, ...] = (
    replace(TOKEN, revoke_time=NOW, expire_time=NOW),
    replace(QUEUE, paused=True),
    replace(WORKER, draining=True, labels={}, machine=Machine(), job_types=()),
    replace(MODEL, body=b"", version=3),
)


def kept(store: Store, kind: type[Record]) -> list[Record]:
    by_kind: dict[type[Record], list[Record]] = {
        Token: [*store.records(Token)],
        Queue: [*store.records(Queue)],
        Worker: [*store.records(Worker)],
        ModelRecord: [*store.records(ModelRecord)],
    }
    return by_kind[kind]


@pytest.mark.parametrize(
    ("record", "changed"), list(zip(ONE_OF_EACH, CHANGED, strict=True)), ids=lambda one: type(one).__name__
)
def test_records_are_put_replaced_and_removed(store: Store, record: Record, changed: Record) -> None:
    with store.transaction():
        store.put(ONE_OF_EACH)
    assert kept(store, type(record)) == [record]
    with store.transaction():
        store.put([record, changed])
    assert kept(store, type(record)) == [changed]
    with store.transaction():
        store.remove([record, record])
    assert kept(store, type(record)) == []
    assert [type(other) for other in ONE_OF_EACH if kept(store, type(other))] == [
        type(other) for other in ONE_OF_EACH if other is not record
    ]


@pytest.mark.parametrize(
    ("record", "changed"), list(zip(ONE_OF_EACH, CHANGED, strict=True)), ids=lambda one: type(one).__name__
)
def test_records_that_are_there_can_be_left_alone(store: Store, record: Record, changed: Record) -> None:
    with store.transaction():
        store.put([record])
        store.put([changed], replace=False)
    assert kept(store, type(record)) == [record]
    with store.transaction():
        store.remove([record])
        store.put([record, changed], replace=False)
    assert kept(store, type(record)) == [record]


def test_queues_are_apart_by_tenant(store: Store) -> None:
    with store.transaction():
        store.put([QUEUE, replace(QUEUE, tenant="evil"), replace(QUEUE, name="a")])
        store.remove([replace(QUEUE, tenant="evil"), replace(QUEUE, tenant="none")])
    assert store.records(Queue) == [replace(QUEUE, name="a"), QUEUE]


def test_records_are_rolled_back(store: Store) -> None:
    def put_and_fail() -> None:
        with store.transaction():
            store.put([TOKEN])
            assert store.records(Token) == [TOKEN]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        put_and_fail()
    assert store.records(Token) == []


def test_a_thousand_records(store: Store) -> None:
    models = [replace(MODEL, model_id=number) for number in range(1000)]
    with store.transaction():
        store.put(models)
        store.remove(models[:500])
    assert store.records(ModelRecord) == models[500:]


def test_lanes_come_back_and_are_new_once(store: Store) -> None:
    labels = (("zone", "a"), ("zone2", "b"))
    rich = lane(2, requirements=Requirements(1, 2, 3, 4, labels, 5, 6), concurrency_key="k")
    with store.transaction():
        store.add_lanes([lane(), rich])
    assert list(store.lanes()) == [lane(), rich]
    with store.transaction():
        store.add_lanes([lane(), rich, lane()])
    assert list(store.lanes()) == [lane(), rich]
    for again in (lane(3), replace(rich, lane_id=4)):
        with pytest.raises(IntegrityViolation), store.transaction():
            store.add_lanes([again])
    assert list(store.lanes()) == [lane(), rich]


def chunk(offset: int, text: str, attempt: int = 1, job_id: int = 1) -> LogChunk:
    return LogChunk(job_id=job_id, attempt=attempt, offset=offset, text=text, stream=1, time=NOW)


def test_logs_are_read_from_any_byte(store: Store) -> None:
    fill(store, [job(1), job(2)])
    pieces = [chunk(0, "hüb"), chunk(4, "sch\n"), chunk(8, "x" * 100), chunk(108, "\x00")]
    with store.transaction():
        store.append_logs([pieces[2], pieces[0], pieces[3], chunk(0, "other", attempt=2), chunk(0, "o", job_id=2)])
        store.append_logs([pieces[1]])
    assert store.logs(1, 1, 0, 10) == pieces
    assert store.logs(1, 1, 3, 10) == pieces
    assert store.logs(1, 1, 4, 10) == pieces[1:]
    assert store.logs(1, 1, 107, 10) == pieces[2:]
    assert store.logs(1, 1, 108, 10) == pieces[3:]
    assert store.logs(1, 1, 109, 10) == []
    assert store.logs(1, 1, 1, 2) == pieces[:2]
    assert store.logs(1, 3, 0, 10) == []


def test_logs_have_gaps(store: Store) -> None:
    fill(store, [job(1)])
    pieces = [chunk(10, "ten"), chunk(50, "fifty")]
    with store.transaction():
        store.append_logs(pieces)
    assert store.logs(1, 1, 0, 10) == pieces
    assert store.logs(1, 1, 20, 10) == pieces[1:]


def test_logs_said_twice_count_once(store: Store) -> None:
    fill(store, [job(1)])
    with store.transaction():
        store.append_logs([chunk(0, "first"), chunk(0, "again"), chunk(5, ""), chunk(5, "next")])
        store.append_logs([chunk(0, "once more")])
    assert store.logs(1, 1, 0, 10) == [chunk(0, "first"), chunk(5, "next")]


def test_logs_go_with_their_job_and_never_before_it(store: Store) -> None:
    fill(store, [job(1), job(2)])
    with store.transaction():
        store.append_logs([chunk(0, "a"), chunk(0, "b", job_id=2)])
        store.delete([1])
    assert store.logs(1, 1, 0, 10) == []
    assert store.logs(2, 1, 0, 10) == [chunk(0, "b", job_id=2)]
    with pytest.raises(IntegrityViolation), store.transaction():
        store.append_logs([chunk(0, "a")])


def test_an_empty_piece_of_log_needs_no_job(store: Store) -> None:
    with store.transaction():
        store.append_logs([chunk(0, "")])
    assert store.logs(1, 1, 0, 10) == []

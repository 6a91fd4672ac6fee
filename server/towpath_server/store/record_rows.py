"""The small records as rows, and back: one table a kind, one column a field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from types import MappingProxyType
from typing import Any

from towpath_server.core.records import Gpu, Machine, ModelRecord, Queue, Quota, Replica, Role, Share, Token, Worker
from towpath_server.store.base import Record
from towpath_server.store.rows import Row, dumps, loads


@dataclass(frozen=True, slots=True)
class Table:
    """Where a kind of record is kept: the first `key` columns are its key."""

    name: str
    kind: type[Record]
    key: int
    columns: tuple[str, ...]

    def row(self, record: Record) -> Row:
        """The record, as `columns`."""
        return tuple(_write(name, getattr(record, name)) for name in self.columns)

    def key_of(self, record: Record) -> Row:
        """The record's key."""
        return self.row(record)[: self.key]

    def read(self, row: Sequence[Any]) -> Any:
        """The record of a row."""
        return self.kind(**{name: _read(name, value) for name, value in zip(self.columns, row, strict=True)})


def _table(name: str, kind: type[Record], key: int) -> Table:
    return Table(name, kind, key, tuple(field.name for field in fields(kind)))


TABLES: dict[type[Record], Table] = {
    table.kind: table
    for table in (
        _table("tokens", Token, 1),
        _table("queues", Queue, 2),
        _table("workers", Worker, 1),
        _table("models", ModelRecord, 1),
        _table("replicas", Replica, 1),
        _table("quotas", Quota, 2),
    )
}


def _read_machine(text: str) -> Machine:
    cpu_count, memory_mb, gpus, hostname, platform, python_version = loads(text)
    return Machine(
        cpu_count=cpu_count,
        memory_mb=memory_mb,
        gpus=tuple(Gpu(*gpu) for gpu in gpus),
        hostname=hostname,
        platform=platform,
        python_version=python_version,
    )


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "role": int,
    "share": int,
    "paused": int,
    "draining": int,
    "job_types": dumps,
    "labels": lambda labels: dumps(dict(labels)),
    "machine": lambda machine: dumps(astuple(machine)),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "role": Role,
    "share": Share,
    "paused": bool,
    "draining": bool,
    "job_types": lambda text: tuple(loads(text)),
    "labels": lambda text: MappingProxyType(loads(text)),
    "machine": _read_machine,
}


def _write(name: str, value: Any) -> Any:
    writer = _WRITERS.get(name)
    return value if writer is None else writer(value)


def _read(name: str, value: Any) -> Any:
    reader = _READERS.get(name)
    return value if reader is None else reader(value)

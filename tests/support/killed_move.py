"""Moves a store again and again, killed some lines of the code later each time: `-m support.killed_move FOLDER URL...`.

A process of its own, because it forks for each time. The URLs name empty databases: one for each way.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from support.killed_restore import in_child
from support.whole_stores import make_store, read
from towpath_server.store import moving
from towpath_server.store.base import StoreRefused
from towpath_server.store.postgres import PostgresStore, schema
from towpath_server.store.postgres import archive as postgres
from towpath_server.store.sqlite import SqliteStore
from towpath_server.store.sqlite import archive as sqlite

WATCHED = {moving.__file__, postgres.__file__, sqlite.__file__}
STEP = 45


def main(folder: Path, url: str) -> None:
    """Kills moves there and back, and prints how many."""
    path, back = folder / "towpath.db", folder / "back" / "towpath.db"
    make_store().write(path)
    there_lines = killed(partial(there, path, url), lambda: is_there(url))
    with closing(SqliteStore(path)) as old, closing(PostgresStore(url)) as new:
        assert at_rest(read(new)) == at_rest(read(old))
    back_lines = killed(partial(and_back, url, back), back.exists)
    with closing(SqliteStore(path)) as old, closing(SqliteStore(back)) as new:
        assert at_rest(read(new)) == at_rest(read(old))
    assert {one.name for one in back.parent.iterdir()} <= {"towpath.db", "towpath.db.lock"}
    print(there_lines + back_lines)


def killed(move: Any, is_done: Any) -> int:
    """How often it was killed before it came to its end. It is there as a whole or not at all."""
    times = 0
    while in_child(partial(until_line, move, times * STEP)):
        times += 1
        if is_done():
            # It was killed at the very end; then the next one refuses, and leaves what is there.
            try:
                move()
            except StoreRefused:
                return times
            raise AssertionError("a store was overwritten")
    assert is_done()
    return times


def until_line(move: Any, line: int) -> None:
    """Moves, and dies before the n-th line of the code that does it."""
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    sys.settrace(trace)
    move()


def there(path: Path, url: str) -> None:
    """From the file to the database."""
    with sqlite.source(path) as source, postgres.target(url) as target:
        moving.move(source, target, lambda done, whole: None)


def and_back(url: str, path: Path) -> None:
    """From the database to a file."""
    with postgres.source(url) as source, sqlite.target(path) as target:
        moving.move(source, target, lambda done, whole: None)


def is_there(url: str) -> bool:
    """Whether the database holds anything at all."""
    return schema.examine(schema.read(url)) > 0


def at_rest(held: dict[str, list[Any]]) -> dict[str, list[str]]:
    """What is compared: the sessions of workers live nowhere."""
    return {
        name: [repr(one).replace("replica_id=3", "replica_id=0") for one in things] for name, things in held.items()
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""Restores a store again and again, killed one line of the code later each time: `-m support.killed_restore FOLDER`.

A process of its own, because it forks for each line.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from support.store_samples import fill, job
from towpath_server.store.base import Matching
from towpath_server.store.sqlite import SqliteStore, restoring, snapshot

OLD, NEW = {1, 2, 3, 4}, {1, 2}
# The copy itself touches nothing that has a name yet.
WATCHED = restoring.__file__


def main(folder: Path) -> None:
    """Kills it before every other line, and prints how many there are."""
    first, backup = folder / "first", folder / "backup.sqlite"
    in_child(lambda: unclean(first / "towpath.db", backup))
    lines = 0
    while True:
        work = folder / f"at-{lines}"
        shutil.copytree(first, work)
        path = work / "towpath.db"
        was_killed = in_child(partial(put_back_until, backup, path, lines))
        now = jobs_in(path)
        assert now in (OLD, NEW), (lines, now)
        if not was_killed:
            assert (now, [jobs_in(aside) for aside in asides(path)]) == (NEW, [OLD])
        # Whatever it left, the next one does it all.
        restoring.put_back(backup, path)
        assert jobs_in(path) == NEW, lines
        kept = [jobs_in(aside) for aside in asides(path)]
        assert OLD in kept, (lines, kept)
        assert not [*work.glob("*.restoring*"), *work.glob("*.setting-aside*")], lines
        shutil.rmtree(work)
        if not was_killed:
            break
        lines += 2
    print(lines)


def unclean(path: Path, backup: Path) -> None:
    """A store of which half lies in the log only, because its process died, and a backup of its first half."""
    store = SqliteStore(path)
    fill(store, [job(one) for one in NEW])
    snapshot.take(path, backup)
    fill(store, [job(one) for one in OLD - NEW])
    os.kill(os.getpid(), signal.SIGKILL)


def put_back_until(backup: Path, path: Path, line: int) -> None:
    """Restores, and dies before the n-th line of the code that does it."""
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != WATCHED:
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    sys.settrace(trace)
    restoring.put_back(backup, path)


def in_child(run: Any) -> bool:
    """Whether it died of SIGKILL."""
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def asides(path: Path) -> list[Path]:
    """The stores of before."""
    found = path.parent.glob(f"{path.name}.before-restore-*")
    return [one for one in found if not one.name.endswith(("-wal", "-shm", ".lock"))]


def jobs_in(path: Path) -> set[int]:
    """The jobs in a store that opens."""
    store = SqliteStore(path)
    found = {job.job_id for job in store.find(Matching(tenant="acme"), 100)}
    store.close()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What one job may use: how it is set, what a person is told, which errors of a handler it is behind."""

from __future__ import annotations

import errno
import math
import os
import queue
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from towpath_worker import limits, procs
from towpath_worker.command import flag
from towpath_worker.limits import Limit, Limits
from towpath_worker.settings import WorkerSettings, load
from towpath_worker.watch import Watch


@pytest.mark.parametrize(
    ("given", "count"),
    [("1", 1), (4096, 4096), ("512M", 512 << 20), ("8g", 8 << 30), ("1.5 GiB", 3 << 29), ("2TB", 2 << 40)],
)
def test_a_size_is_a_number_of_bytes_or_words(given: object, count: int) -> None:
    assert limits.size(given) == count


@pytest.mark.parametrize("given", ["", "0", "-1", "8 bytes", "G", "1e9", "8GG", "0.1", None, "9" * 400, "2000000T"])
def test_what_is_no_size_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="no size"):
        limits.size(given)


def test_limits_come_from_flag_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "worker.toml"
    config.write_text('max_memory = "1G"\nmax_disk = "2G"\nmax_table_rows = 5\n')
    monkeypatch.setenv("TOWPATH_WORKER_MAX_MEMORY", "3G")
    monkeypatch.setenv("TOWPATH_WORKER_MAX_CPU_TIME", "1.5")
    settings = load({"max_disk": "4G", "max_processes": None}, config)
    assert settings.limits() == Limits(3 << 30, 1.5, None, 4 << 30, limits.DEFAULT_PROCESSES)
    assert settings.max_table_rows == 5
    assert Limits.of(settings.limits().facts()) == settings.limits()
    assert WorkerSettings().limits() == Limits()


def test_each_limit_names_its_flag_and_says_what_to_do() -> None:
    bounds = Limits(memory=2 << 30, cpu_time=60, open_files=100, disk=5 << 20, processes=9)
    for limit in Limit:
        told = limits.failure(limit, bounds)
        setting = limit.value.removeprefix("--").replace("-", "_")
        assert flag((setting,)) == limit.value
        assert setting in WorkerSettings.model_fields
        assert told.message.endswith(f"or raise the limit of this worker ({limit.value}).")
        assert not told.retryable
    assert limits.failure(Limit.MEMORY, bounds).message.startswith("The job used more than 2 GiB of memory. Give it")


def test_a_setting_that_would_break_the_worker_itself_is_refused() -> None:
    too_little = ({"max_open_files": 3}, {"max_memory": "1M"}, {"max_disk": "1K"}, {"share": "all"})
    too_much = ({"max_cpu_time": math.inf}, {"max_open_files": 10**9}, {"max_table_rows": 10**30})
    for given in (*too_little, *too_much):
        with pytest.raises(ValidationError, match=next(iter(given))):
            WorkerSettings.model_validate(given)


def test_an_error_counts_as_a_limit_s_only_where_there_is_one() -> None:
    def raised(inner: BaseException) -> BaseException:
        try:
            try:
                raise inner
            except BaseException as error:
                raise RuntimeError("the table cannot be read") from error
        except RuntimeError as error:
            return error

    bounds = Limits(memory=1, open_files=100, disk=1)
    cases = [(MemoryError(), Limit.MEMORY), (OSError(errno.EMFILE, ""), Limit.OPEN_FILES)]
    cases.append((OSError(errno.EFBIG, ""), Limit.DISK))
    for error, limit in cases:
        assert limits.behind(error, bounds) is limit
        assert limits.behind(raised(error), bounds) is limit
        assert limits.behind(raised(error), Limits()) is None
    assert limits.behind(raised(OSError(errno.ENOSPC, "")), bounds) is None


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_processes_are_found_below_their_ancestor_whatever_their_name() -> None:
    program = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 (x', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        known = procs.table()
        parent = known[child.pid].parent
        assert child.pid in procs.descendants(known, [parent])
        assert child.pid not in procs.descendants(known, [child.pid])
        assert procs.table(skip=[child.pid]).keys() & {child.pid} == set()
        assert known[child.pid].memory >= (procs.exact_memory([child.pid]) or 0) > 0
        child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_files_without_a_name_count_and_a_look_that_fails_is_not_the_last(tmp_path: Path) -> None:
    """Where temporary files are in memory, nothing else tells of a deleted one."""
    heard: queue.Queue[Limit] = queue.Queue()

    def fail(limit: Limit) -> None:
        heard.put(limit)
        raise RuntimeError("a bug")

    watch = Watch(Limits(disk=2 << 20, processes=None))
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4 << 20))
        file.flush()
        assert 4 << 20 <= procs.nameless([os.getpid(), os.getpid()]) < 8 << 20
        for on_break in (fail, heard.put):
            watch.begin(os.getpid(), [], on_break)
            assert heard.get(timeout=20) is Limit.DISK
    watch.close()

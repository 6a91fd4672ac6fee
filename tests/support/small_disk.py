"""A disk that is soon full: a file system in memory, where this user may mount one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSIDE = "TOWPATH_TEST_HAS_ITS_OWN_MOUNTS"


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def may_mount(*before: str) -> bool:
    """Whether this user may mount something, by itself or through what comes before."""
    script = 'f=$(mktemp -d) && mount -t tmpfs -o size=65536 tmpfs "$f" && umount "$f"; r=$?; rmdir "$f"; exit $r'
    try:
        return subprocess.run([*before, "sh", "-c", script], capture_output=True).returncode == 0
    except OSError:
        return False


def again_inside(tests: str) -> None:
    """Run the one test of that file again, in a namespace in which it may mount; skipped where there is none."""
    if INSIDE in os.environ or not may_mount("unshare", "-rm"):
        pytest.skip("this user may mount nothing, not even in a namespace of its own")
    words = ["unshare", "-rm", sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", tests]
    done = subprocess.run(words, env={**os.environ, INSIDE: "yes"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout

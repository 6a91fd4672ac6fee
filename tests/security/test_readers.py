"""Broken tables and models in the worker's readers: read, or refused in words; never another exception or a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import processes

CASES = int(os.environ.get("TOWPATH_FUZZ_TABLES") or 300)
SEED = int(os.environ.get("TOWPATH_FUZZ_SEED") or 1)


def test_what_is_broken_is_refused_in_words(tmp_path: Path) -> None:
    words = [sys.executable, "-W", "ignore", "-X", "faulthandler", "-m", "support.fuzzing.readers"]
    # In a process of its own: what is wrong in native code ends it.
    done = subprocess.run(
        [*words, str(SEED), str(CASES), str(tmp_path)],
        env=processes.clean(),
        capture_output=True,
        text=True,
        timeout=100 + CASES,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"TOWPATH_FUZZ_SEED: {lines[-1:]}\n{done.stderr}"
    assert not [line for line in lines if line.startswith("broken")]
    [read] = [int(line.split()[1]) for line in lines if line.startswith("read")]
    # It has seen both.
    assert CASES // 20 < read < CASES // 2

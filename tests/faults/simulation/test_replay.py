"""A seed is a night that can be had again, step by step: in another process, and whatever Python's hashes are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.simulation import replay
from support.simulation.store import fast_folder
from support.simulation.world import simulate

TESTS = Path(__file__).parents[2]
SEEDS = ("3", "5", "21")


def digests(hash_seed: str) -> list[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "support.simulation.replay", "--digest", *SEEDS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_seed_replays_exactly() -> None:
    first = digests("1")
    assert digests("4242") == first
    with fast_folder() as folder:
        assert [simulate(int(seed), folder).digest for seed in SEEDS] == first
    assert len(set(first)) == len(SEEDS)


def test_a_failing_seed_says_what_is_wrong_and_how_to_have_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    from support import seeded_bugs

    with seeded_bugs.put("requeue_at_the_tail"):
        assert replay.main(["0", "1", "2"]) == 1
    said = capsys.readouterr().out
    assert "positions_are_kept: A new job stands last" in said
    assert "TOWPATH_SIM_SEED=" in said
    assert "auditor" in said

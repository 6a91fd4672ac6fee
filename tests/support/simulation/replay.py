"""Run seeds again: `PYTHONPATH=tests .venv/bin/python -m support.simulation.replay [--digest | --all] SEED ...`.

`--all` shows every step instead of the last ones, `--digest` nothing but the digests of the steps; `--shared` runs
several schedulers that share a store.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from support.simulation.store import fast_folder
from support.simulation.world import simulate, simulate_replicas


def main(arguments: Sequence[str]) -> int:
    """Replay; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="support.simulation.replay")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("seeds", type=int, nargs="+")
    asked = parser.parse_args(arguments)
    wrong = False
    with fast_folder() as folder:
        for seed in asked.seeds:
            keep = 1_000_000 if asked.all else 40
            outcome = simulate_replicas(seed, keep=keep) if asked.shared else simulate(seed, folder, keep=keep)
            if asked.all and outcome.violation is None:
                print("\n".join(outcome.last_lines))
            print(outcome.digest if asked.digest else outcome)
            wrong = wrong or outcome.violation is not None
    return int(wrong)


def run_seeds(seeds: range, *, shared: bool = False) -> tuple[int, int, list[str]]:
    """How many seeds and steps there were, and what went wrong: for a process of its own."""
    steps, wrong = 0, []
    with fast_folder() as folder:
        for seed in seeds:
            outcome = simulate_replicas(seed) if shared else simulate(seed, folder)
            steps += outcome.steps
            if outcome.violation is not None:
                wrong.append(str(outcome))
    return len(seeds), steps, wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

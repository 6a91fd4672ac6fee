"""Broken requests of every RPC against a real scheduler: it answers each with one of a few codes and in its own words.

A seed that fails is played again with TOWPATH_FUZZ_SEED=... and, for more of them, TOWPATH_FUZZ_REQUESTS=...
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from support import processes
from support.fuzzing.besieging import besiege
from support.fuzzing.messages import methods, path_of

REQUESTS = int(os.environ.get("TOWPATH_FUZZ_REQUESTS") or 5_000)
SEED = int(os.environ.get("TOWPATH_FUZZ_SEED") or 6)


async def test_no_broken_request_gets_more_than_a_refusal(tmp_path: Path) -> None:
    with processes.scheduler(tmp_path) as at:
        outcome = await besiege(at, tmp_path, SEED, REQUESTS)
    missed = [method.name for method in methods() if path_of(method) not in outcome.reached]
    assert outcome.sent >= REQUESTS
    assert not outcome.broken, str(outcome)
    # It has seen more than refusals.
    assert outcome.codes[grpc.StatusCode.OK] > REQUESTS // 10, outcome.codes
    assert len(missed) < len(methods()) // 4, missed

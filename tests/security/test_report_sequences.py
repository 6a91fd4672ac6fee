"""Reports in any order and on anybody's jobs: what is not one's own does not change, and what is over stays over."""

from __future__ import annotations

import os
from typing import Any

from structlog.testing import capture_logs

from support.fuzzing.ground import bearer, token
from support.fuzzing.thief import steal
from support.rpc_stage import stage
from towpath.v1 import auth_service_pb2

SEED = int(os.environ.get("TOWPATH_FUZZ_SEED") or 1)
SEEDS = int(os.environ.get("TOWPATH_FUZZ_SEQUENCES") or 15)


async def test_a_worker_that_reports_what_it_likes_harms_nobody_else() -> None:
    async with stage() as at:
        with capture_logs() as logs:
            for seed in range(SEED, SEED + SEEDS):
                secrets = [
                    (await token(at.channel, at.bearer(), auth_service_pb2.ROLE_ADMIN, user))[1]
                    for user in (f"thief-{seed}", f"victim-{seed}")
                ]
                played = await steal(at.channel, bearer(secrets[0]), bearer(secrets[1]), seed)
                assert not played.broken, f"TOWPATH_FUZZ_SEED={seed}: {played.broken}\n" + "\n".join(played.told)
    mistakes: list[Any] = [log for log in logs if log["log_level"] in ("error", "critical")]
    assert not mistakes

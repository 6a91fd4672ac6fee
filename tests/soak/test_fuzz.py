"""Broken requests, reports, tables and models, for hours: what the tests under tests/security do for seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from structlog.testing import capture_logs

from support import processes, soak
from support.fuzzing.besieging import besiege
from support.fuzzing.ground import bearer, token
from support.fuzzing.thief import steal
from support.rpc_stage import stage
from towpath.v1 import auth_service_pb2

# A new scheduler and a new seed after so many: one that holds much is slower, and a seed that fails is sooner played.
ONE_SIEGE = 10_000
ATTACK = Path(__file__).parents[1] / "security" / "attack.py"


async def test_broken_requests(tmp_path: Path) -> None:
    count = soak.scale("TOWPATH_SOAK_FUZZ")
    with soak.row("broken requests get a refusal in fixed words, never a trace or UNKNOWN", "requests") as row:
        for seed in range(max(count // ONE_SIEGE, 1)):
            folder = tmp_path / str(seed)
            folder.mkdir()
            with processes.scheduler(folder) as at:
                outcome = await besiege(at, folder, seed, min(count, ONE_SIEGE))
            row.trials += outcome.sent
            row.violations += len(outcome.broken)
            if outcome.broken:
                row.note = str(outcome)[:1_000]


async def test_reports_in_any_order() -> None:
    seeds = soak.scale("TOWPATH_SOAK_SEQUENCES")
    with soak.row("a worker that reports what it likes harms nobody else", "sequences") as row:
        async with stage() as at:
            for seed in range(seeds):
                with capture_logs() as logs:
                    users = [f"{who}-{seed}" for who in ("thief", "victim")]
                    admin = auth_service_pb2.ROLE_ADMIN
                    pair = [bearer((await token(at.channel, at.bearer(), admin, user))[1]) for user in users]
                    played = await steal(at.channel, pair[0], pair[1], seed)
                row.trials += 1
                row.violations += len(played.broken) + sum(log["log_level"] == "error" for log in logs)
                if played.broken:
                    row.note = f"seed {seed}: {played.broken[0]}"


def test_broken_tables_and_models(tmp_path: Path) -> None:
    cases = soak.scale("TOWPATH_SOAK_TABLES")
    with soak.row("broken tables and models are read, or refused in words", "files") as row:
        words = [sys.executable, "-W", "ignore", "-X", "faulthandler", "-m", "support.fuzzing.readers", "0", str(cases)]
        done = subprocess.run([*words, str(tmp_path)], env=processes.clean(), stdout=subprocess.PIPE, text=True)
        lines = done.stdout.splitlines()
        broken = [line for line in lines if line.startswith("broken")]
        row.trials = sum(line.startswith("case") for line in lines)
        row.violations = len(broken) + int(done.returncode != 0)
        row.note = broken[0][:500] if broken else ""


def test_the_attack_script(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with (
        soak.row("the attack script says that everything is held", "runs") as row,
        processes.scheduler(tmp_path) as at,
        processes.worker(at, tmp_path / "worker", "--data-dir", str(data)),
    ):
        words = [sys.executable, str(ATTACK), "--server", at.address, "--token-file", str(at.token_file)]
        words += ["--data-dir", str(data), "--models-dir", str(tmp_path / "worker" / "state" / "models")]
        done = subprocess.run(words, env=processes.clean(), stdout=subprocess.PIPE, text=True)
        row.trials, row.violations = 1, int(done.returncode != 0)
        row.note = (done.stdout.splitlines() or [""])[-1]

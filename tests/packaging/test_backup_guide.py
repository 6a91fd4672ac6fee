"""What docs/backup.md says is done here: its commands are run, with a scheduler and, to restore, without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support import processes
from towpath import Client, JobState

# What it says of PostgreSQL is done in test_scaling_guide.py.
GUIDE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")
BACK_UP, RESTORE, _ = re.split(r"\n## (?:Restore|A store in PostgreSQL)\n", GUIDE)
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(lines: str, environment: dict[str, str]) -> str:
    script = f"set -euo pipefail\n{lines}"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_guide_does_what_it_says(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOWPATH_", "XDG_"))}
    environment = {**kept, "HOME": str(tmp_path), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    start = ["towpath-server", "--listen", "127.0.0.1:0"]
    token = tmp_path / ".config" / "towpath" / "token"
    [simple], [cron] = blocks(BACK_UP, "bash"), blocks(BACK_UP, "cron")
    [unit] = re.findall(r"^ExecStart=(.*)$", "".join(blocks(BACK_UP, "ini")), re.MULTILINE)
    [restore] = blocks(RESTORE, "bash")
    with (
        processes.start(start, tmp_path, environment) as (_, address),
        Client(address, token.read_text().strip()) as one,
    ):
        before = [one.submit("anything").job_id for _ in range(3)]
        for lines in (simple, cron.split(maxsplit=5)[5], unit.replace("%h", str(tmp_path))):
            assert "copied 3 jobs (3 not final)" in run(lines, environment)
            # They are named by the second.
            for copied in (tmp_path / "backups").iterdir():
                copied.rename(copied.with_name(f"towpath-2000{copied.stat().st_ino:09}.sqlite"))
        one.submit("anything")
    said = run(restore, environment)
    assert "restored 3 jobs (3 not final)" in said
    assert "towpath.db.before-restore-" in said
    with (
        processes.start(start, tmp_path, environment) as (_, address),
        Client(address, token.read_text().strip()) as two,
    ):
        assert {job.job_id for job in two.jobs()} == set(before)
        assert two.stats().by_state == {JobState.QUEUED: 3}

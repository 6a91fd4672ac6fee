"""Somebody else's client, generated from the protos with the oldest compiler and libraries that we promise."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from support import processes

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
ELSEWHERE = ROOT / ".venv-stubs" / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    assert ELSEWHERE.exists(), "The environment that generates stubs is missing: make .venv-stubs/ready"
    target = tmp_path / "stubs"
    target.mkdir()
    names = [str(path.relative_to(PROTOS)) for path in PROTOS.glob("**/*.proto")]
    protoc = [str(ELSEWHERE), "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"--python_out={target}"]
    subprocess.run([*protoc, f"--grpc_python_out={target}", *names], check=True)
    return target


def test_a_client_from_the_protos_alone_works_and_submits(tmp_path: Path, stubs: Path) -> None:
    with processes.scheduler(tmp_path) as scheduler:
        script = Path(__file__).with_name("protos_only.py")
        done = subprocess.run(
            [ELSEWHERE, "-I", script, stubs, scheduler.address],
            env={**scheduler.environment, "TOWPATH_TOKEN": scheduler.token},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "grpcio": "1.76.0",
        "towpath": [],
        "same_job": True,
        "running": ["JOB_STATE_RUNNING", 50, "half of it"],
        "done": ["JOB_STATE_SUCCEEDED", 5],
        "log": "adding\n",
        "attempt": [1, "ATTEMPT_OUTCOME_SUCCEEDED"],
    }

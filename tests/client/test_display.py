"""Progress for people: a bar where somebody looks, lines in a pipe."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from support.fake_jobs import FakeJobs, value
from towpath import Client, Job, Progress, display, follow, wording
from towpath.bar import live_bar
from towpath.v1 import job_pb2


def snapshot(state: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_RUNNING, **progress: Any) -> Job:
    message = job_pb2.Job(job_id="job_1", job_type="train", state=state)
    if progress:
        message.progress.CopyFrom(job_pb2.Progress(**progress))
    return Job.from_proto(message)


def test_lines_say_what_is_new() -> None:
    out = io.StringIO()
    lines = display.Lines(out)
    lines.update(snapshot(job_pb2.JOB_STATE_QUEUED))
    for percent in range(0, 30, 2):
        lines.update(
            snapshot(percent=percent, phase="fit", metrics={"logloss": 0.25, "round": 3}, eta=Duration(seconds=75))
        )
    lines.update(snapshot(job_pb2.JOB_STATE_SUCCEEDED))
    assert out.getvalue().splitlines() == [
        "job_1 QUEUED",
        "job_1 RUNNING 0 % fit, logloss 0.25, round 3, 1 min 15 s left",
        "job_1 RUNNING 10 % fit, logloss 0.25, round 3, 1 min 15 s left",
        "job_1 RUNNING 20 % fit, logloss 0.25, round 3, 1 min 15 s left",
        "job_1 SUCCEEDED",
    ]


def test_a_line_has_the_first_line_of_a_failure() -> None:
    for failed in (
        job_pb2.Job(job_id="job_1", state=job_pb2.JOB_STATE_SCHEDULED, state_reason="KeyError: a\nb"),
        job_pb2.Job(
            job_id="job_1",
            state=job_pb2.JOB_STATE_SCHEDULED,
            failure=job_pb2.Failure(type="KeyError", message="a\nb"),
        ),
    ):
        assert display.describe(Job.from_proto(failed)) == "job_1 SCHEDULED KeyError: a"


def test_a_handlers_message_cannot_act_on_the_terminal() -> None:
    out = io.StringIO()
    display.Lines(out).update(snapshot(percent=1, message="\x1b[2J[red]hi\nthere\u202e"))
    assert out.getvalue() == "job_1 RUNNING 1 % \\x1b[2J[red]hi\\nthere\\u202e\n"
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, color_system=None, width=160)
    with live_bar(console) as bar:
        bar.update(snapshot(percent=40, phase="fit", message="\x1b[2J[red]hi", metrics={"f1": 0.5}))
    shown = terminal.getvalue()
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J[red]hi" in shown
    assert "40%" in shown
    assert "f1 0.5" in shown


def test_the_bar_ends_full_or_with_the_failure() -> None:
    out = io.StringIO()
    with live_bar(Console(file=out, force_terminal=True, color_system=None, width=160)) as bar:
        bar.update(snapshot(job_pb2.JOB_STATE_SUCCEEDED, percent=97))
    assert "100%" in out.getvalue()
    failed = job_pb2.Job(job_type="train", state=job_pb2.JOB_STATE_FAILED)
    failed.failure.MergeFrom(job_pb2.Failure(type="ValueError", message="no such column"))
    with live_bar(Console(file=out, force_terminal=True, color_system=None, width=160)) as bar:
        bar.update(Job.from_proto(failed))
    assert "ValueError: no such column" in out.getvalue()


def test_a_long_message_leaves_the_time_whole() -> None:
    terminal = io.StringIO()
    with live_bar(Console(file=terminal, force_terminal=True, color_system=None, width=80)) as bar:
        bar.update(snapshot(percent=90, phase="evaluate", message="measuring on 359 test rows, logloss 0.1851"))
    assert [line for line in terminal.getvalue().splitlines() if "evaluate" in line and "0:00:00" not in line] == []


def test_of_two_jobs_at_once_one_has_the_bar() -> None:
    consoles = [Console(file=io.StringIO(), force_terminal=True, color_system=None, width=160) for _ in range(2)]
    with display.follower(consoles[0]) as first, display.follower(consoles[1]) as second:
        for shown in (first, second):
            shown.update(snapshot(job_pb2.JOB_STATE_SUCCEEDED))
    with display.follower(consoles[1]) as third:
        third.update(snapshot(percent=33))
    written = [console.file.getvalue() for console in consoles if isinstance(console.file, io.StringIO)]
    assert "100%" in written[0]
    assert "100%" not in written[1]
    assert "33%" in written[1]


def test_in_a_pipe_nothing_is_shown_unless_asked_for(
    client: Client, jobs: FakeJobs, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.run = lambda job: value(3)
    assert client.submit("count").result() == 3
    assert capsys.readouterr() == ("", "")
    assert client.submit("count").result(progress=True) == 3
    assert capsys.readouterr().err.endswith("SUCCEEDED\n")
    assert follow(client.submit("count")).result == 3
    with pytest.raises(ValueError, match="no job"):
        follow([])


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s left"), (59.4, "59 s left"), (3700, "1 h 01 min left")])
def test_time_left(seconds: float, said: str) -> None:
    message = job_pb2.Progress()
    message.eta.FromTimedelta(timedelta(seconds=seconds))
    assert wording.eta(Progress.from_proto(message)) == said


def test_importing_the_client_is_light() -> None:
    heavy = ("grpc", "google", "rich", "pandas", "pyarrow", "numpy", "asyncio")
    script = f"import sys, towpath; print([name for name in {heavy} if name in sys.modules])"
    script += "; from towpath import Client; print([name for name in {} if name in sys.modules])".format(
        ("rich", "pandas", "pyarrow", "numpy", "typer")
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]

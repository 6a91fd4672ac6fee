"""The command line against a scheduler over a real socket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from support import fake_cli_server as fake
from support.cli_runner import Run, runner
from support.fake_cli_rest import MODEL_ID, NEW_SECRET, TOKEN_ID, WORKER_ID
from towpath.cli.exit_codes import ExitCode
from towpath.cli.tokens import place
from towpath.v1 import job_pb2

JOB = "job_0000000000001"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[tuple[str, fake.Jobs]]:
    with fake.serving() as found:
        yield found


@pytest.fixture
def jobs(scheduler: tuple[str, fake.Jobs]) -> fake.Jobs:
    scheduler[1].jobs.clear()
    return scheduler[1]


@pytest.fixture
def run(scheduler: tuple[str, fake.Jobs], jobs: fake.Jobs, tmp_path: Path) -> Run:
    return runner(scheduler[0], tmp_path / "token")


def test_train_shows_progress_metrics_importances_and_durations(run: Run, jobs: fake.Jobs) -> None:
    result = run(
        *("train", "flights.csv", "--target", "late", "--hyper", "max_depth=8", "--hyper", "booster=dart"),
        *("--feature", "a", "--feature", "b", "--test-size", "0.3", "--seed", "7", "--task", "classification"),
        *("--priority", "high", "--label", "team=blue", "--timeout", "10m", "--retries", "2", "--gpus", "1"),
    )
    assert result.exit_code == ExitCode.OK, result.stderr
    for part in ("iris@2", "accuracy", "0.9375", "50.0%  ███", "and 2 more", "load 250 ms, fit 1.5 s", "note: 2 rows"):
        assert part in result.stdout
    assert "60 % fit: round 60 of 100, logloss 0.01667" in result.stderr
    job = jobs.jobs[JOB]
    assert dict(job.train.hyperparameters) == {"max_depth": 8, "booster": "dart"}
    assert list(job.train.feature_columns) == ["a", "b"]
    assert (job.train.test_size, job.train.random_seed) == (0.3, 7)
    assert (job.execution_timeout.seconds, job.retry_policy.max_attempts) == (600, 3)
    assert (job.labels["team"], job.requirements.gpu_count) == ("blue", 1)


def test_train_without_waiting_prints_the_id_alone(run: Run) -> None:
    result = run("train", "flights.csv", "--target", "late", "--no-wait")
    assert result.stdout == f"{JOB}\n"


def test_train_sends_a_small_local_table(run: Run, jobs: fake.Jobs, tmp_path: Path) -> None:
    table = tmp_path / "small.csv"
    table.write_text('id,size,ok,name\n1,0.5,true,"a, b"\n2,NA,false,\n')
    assert run("train", f"@{table}", "--target", "ok", "--no-wait").exit_code == ExitCode.OK
    assert run("train", str(table), "--upload", "--target", "ok", "--no-wait").exit_code == ExitCode.OK
    for job in jobs.jobs.values():
        assert list(job.train.data.table.columns) == ["id", "size", "ok", "name"]
        assert [list(row) for row in job.train.data.table.rows] == [[1, 0.5, True, "a, b"], [2, None, False, None]]


def test_predict_prints_and_saves(run: Run, jobs: fake.Jobs, tmp_path: Path) -> None:
    saved = tmp_path / "saved.csv"
    result = run("predict", "iris@2", "rows.csv", "--probabilities", "--save", str(saved), "--dedupe-key", "k")
    assert result.exit_code == ExitCode.OK, result.stderr
    assert "3 predictions by iris@2" in result.stdout
    assert saved.read_text().splitlines() == ["prediction,probability_yes", "yes,0.75", "no,0.25", "no,"]
    assert jobs.jobs[JOB].predict.probabilities
    assert jobs.jobs[JOB].dedupe_key == "k"
    again = run("predict", MODEL_ID, "rows.csv", "--save", str(saved))
    assert again.exit_code == ExitCode.USAGE
    assert len(jobs.jobs) == 1


def test_submit_takes_params_from_everywhere(run: Run, jobs: fake.Jobs, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"a": 1, "b": [true]}')
    assert run("submit", "echo", "--params-json", f"@{tmp_path / 'params.json'}", "--param", "a=2").exit_code == 0
    assert run("submit", "echo", "--params-json", "-", stdin='{"c": {"d": null}}').exit_code == 0
    result = run("submit", "echo", "-p", "text=hello", "-p", 'quoted="8"', "-p", "n=8", "--wait")
    assert json.loads(result.stdout) == {"text": "hello", "quoted": "8", "n": 8}
    first, second, _ = jobs.jobs.values()
    assert json.loads(run("jobs", "get", first.job_id, "--json").stdout)["custom"]["params"] == {"a": 2, "b": [True]}
    assert MessageToDict(second.custom.params) == {"c": {"d": None}}


def test_peek_keeps_the_dispatch_order(run: Run) -> None:
    for priority in ("low", "critical", "normal"):
        run("submit", "echo", "--priority", priority)
    result = run("queues", "peek", "default")
    assert [line.split()[3] for line in result.stdout.splitlines()[1:]] == ["critical", "normal", "low"]


def test_explain_names_what_each_worker_lacks(run: Run) -> None:
    run("submit", "echo")
    result = run("jobs", "explain", JOB)
    for part in ("No worker has a GPU.", "Place 3", WORKER_ID, "has no GPU; is full"):
        assert part in result.stdout


def test_names_cannot_act_on_the_terminal(run: Run) -> None:
    run("submit", "echo")
    for args in (["jobs", "explain", JOB], ["workers", "list"], ["workers", "get", WORKER_ID]):
        output = run(*args).output
        assert not {"\x1b", "\u202e", "\r"} & set(output)
        assert r"name\x1b[31m\u202e\r\nsecond line" in output


def test_steering(run: Run) -> None:
    run("submit", "echo")
    assert run("jobs", "pause", JOB).stdout == f"{JOB} PAUSED\n"
    assert run("jobs", "resume", JOB).stdout == f"{JOB} QUEUED\n"
    assert run("jobs", "cancel", JOB, "--reason", "no need").stdout == f"{JOB} CANCELLED (no need)\n"
    assert run("jobs", "cancel", JOB).exit_code == ExitCode.OK
    assert run("jobs", "delete", JOB).stdout == f"{JOB} deleted\n"
    assert run("queues", "pause", "slow").stdout == "slow PAUSED, 2 waiting\n"
    assert run("workers", "drain", WORKER_ID).stdout == f"{WORKER_ID} DRAINING, 0 running\n"
    assert run("workers", "remove", WORKER_ID).stdout == f"{WORKER_ID} removed; its credential {TOKEN_ID} is revoked\n"
    assert "towpath-worker" in run("workers", "remove", "wkr_0000000000009").stdout
    told = json.loads(run("workers", "remove", WORKER_ID, "--json").stdout)
    assert told == {"worker_id": WORKER_ID, "revoked_token_id": TOKEN_ID}


def test_logs_are_raw_in_a_pipe(run: Run) -> None:
    run("submit", "echo", "--wait")
    assert run("jobs", "logs", JOB, "-f").stdout == "first\n\x1b[2Jsecond\n"


def test_a_secret_goes_to_standard_output_or_to_a_private_file(run: Run, tmp_path: Path) -> None:
    result = run("tokens", "create", "laptop", "--role", "worker", "--ttl", "30d")
    assert result.stdout == f"{NEW_SECRET}\n"
    kept = tmp_path / "new"
    result = run("tokens", "create", "laptop", "--role", "worker", "--output", str(kept))
    assert NEW_SECRET not in result.output
    assert kept.read_text() == f"{NEW_SECRET}\n"
    assert kept.stat().st_mode & 0o077 == 0
    assert run("tokens", "create", "laptop", "--role", "worker", "-o", str(kept)).exit_code == ExitCode.LOCAL


def test_a_token_that_an_older_scheduler_makes_of_another_tenant_is_void(run: Run, jobs: fake.Jobs) -> None:
    jobs.revoked.clear()
    asked = ("--role", "worker", "--tenant", "acme", "--share", "tenant")
    assert run("tokens", "create", "new", *asked).exit_code == 0
    for one in asked[2:4], asked[4:]:
        result = run("tokens", "create", "from an older scheduler", *asked[:2], *one)
        assert (result.exit_code, NEW_SECRET in result.output) == (ExitCode.REFUSED, False)
        assert "older Towpath" in result.stderr
    assert len(jobs.revoked) == 2


def test_a_rotated_token_takes_its_file_or_is_shown_once(run: Run, tmp_path: Path) -> None:
    from support.fake_cli_server import TOKEN

    file = tmp_path / "token"
    result = run("tokens", "rotate", "--overlap", "10m")
    assert NEW_SECRET not in result.output
    assert str(file) in result.stdout
    assert file.read_text() == f"{NEW_SECRET}\n"
    assert file.stat().st_mode & 0o077 == 0
    file.write_text(TOKEN)
    kept = tmp_path / "kept"
    assert run("tokens", "rotate", "--output", str(kept)).exit_code == ExitCode.OK
    assert (kept.read_text(), file.read_text()) == (f"{NEW_SECRET}\n", TOKEN)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept", "token"]


@pytest.mark.skipif(os.name != "posix", reason="locks a folder")
def test_of_two_who_rotate_one_file_the_second_reads_it_when_the_first_has_written(tmp_path: Path) -> None:
    import fcntl

    with ExitStack() as stack:
        folder = os.open(tmp_path, os.O_RDONLY)
        stack.callback(os.close, folder)
        with place(None, tmp_path / "token") as put:
            put("first")
            with pytest.raises(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_invitation_says_what_to_type_and_keeps_the_secret_out_of_it(
    run: Run, scheduler: tuple[str, fake.Jobs], tmp_path: Path
) -> None:
    result = run("workers", "invite", "--user", "bob", "--share", "tenant")
    assert result.stdout == f"{NEW_SECRET}\n"
    assert f"towpath-worker join {scheduler[0]} --share tenant\n" in result.stderr
    assert "bob" in result.stderr
    told = json.loads(run("workers", "invite", "--json").stdout)
    assert (told["secret"], told["command"]) == (NEW_SECRET, f"towpath-worker join {scheduler[0]}")
    kept = tmp_path / "in vitation"
    result = run("workers", "invite", "--output", str(kept), "--insecure")
    assert NEW_SECRET not in result.output
    assert f"join {scheduler[0]} --token-file '{kept}' --insecure\n" in result.stderr
    assert kept.read_text() == f"{NEW_SECRET}\n"
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["jobs", "list"], "jobs"),
        (["jobs", "list", "--state", "QUEUED", "--state", "running"], "jobs"),
        (["jobs", "get", JOB], "job_id"),
        (["jobs", "explain", JOB], "summary"),
        (["jobs", "attempts", JOB], "attempts"),
        (["jobs", "cancel", JOB], "job_id"),
        (["queues", "list"], "queues"),
        (["queues", "peek", "default"], "jobs"),
        (["queues", "resume", "slow"], "name"),
        (["workers", "list", "--all"], "workers"),
        (["workers", "get", WORKER_ID], "worker_id"),
        (["tokens", "create", "laptop", "--role", "worker"], "secret"),
        (["tokens", "list"], "tokens"),
        (["tokens", "revoke", "tok_0000000000001"], "token_id"),
        (["models"], "models"),
        (["whoami"], "token"),
        (["stats"], "jobs"),
        (["version"], "version"),
        (["submit", "echo"], "job_id"),
        (["submit", "echo", "--wait"], "result"),
        (["train", "flights.csv", "--target", "late"], "result"),
        (["predict", "iris", "rows.csv"], "result"),
    ],
)
def test_json_prints_one_document_and_nothing_else(run: Run, args: list[str], key: str) -> None:
    run("submit", "echo")
    result = run(*args, "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    assert key in json.loads(result.stdout)
    assert result.stderr == ""
    people = run(*args)
    assert people.exit_code == ExitCode.OK
    assert people.stdout.strip()
    assert "\x1b" not in people.output


@pytest.mark.parametrize("args", [["jobs", "watch", JOB], ["jobs", "logs", JOB, "--follow"]])
def test_json_streams_a_document_a_line(run: Run, args: list[str]) -> None:
    run("submit", "echo", *(["--wait"] if "logs" in args else []))
    documents = [json.loads(line) for line in run(*args, "--json").stdout.splitlines()]
    assert len(documents) > 1


def test_global_options_may_stand_anywhere(run: Run, scheduler: tuple[str, fake.Jobs]) -> None:
    assert json.loads(run("jobs", "list", "--json", "-s", scheduler[0]).stdout) == {"jobs": []}
    result = run("submit", "echo", "--wait", "--", "--json")
    assert result.exit_code == ExitCode.USAGE


def test_all_that_failed_is_retried_with_one_command(run: Run, jobs: fake.Jobs) -> None:
    for _ in range(3):
        run("submit", "count", "--no-wait")
    first, _, third = jobs.jobs.values()
    first.state = third.state = job_pb2.JOB_STATE_FAILED
    result = run("jobs", "retry", "--all-failed", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["job_id"], one["state"]) for one in told] == [
        (one.job_id, "JOB_STATE_QUEUED") for one in (third, first)
    ]
    assert result.exit_code == ExitCode.OK


def test_one_that_cannot_be_retried_keeps_no_other_from_it(run: Run, jobs: fake.Jobs) -> None:
    run("submit", "count", "--no-wait")
    result = run("jobs", "retry", "job_zzzzzzzzzzzzz", JOB)
    assert result.stdout == f"{JOB} QUEUED\n"
    assert result.exit_code == ExitCode.NOT_FOUND


def test_audit_is_a_line_each_whatever_a_name_contains(run: Run) -> None:
    result = run("audit")
    assert result.exit_code == ExitCode.OK, result.stderr
    heads, first, second = result.stdout.splitlines()
    assert heads.split() == ["WHEN", "WHO", "FROM", "ACTION", "SUBJECT", "DETAILS"]
    assert "ada@default" in first
    assert r'empty="" name="name\x1b[31m\u202e\r\nsecond line" role=worker sly="a\" role=admin"' in first
    assert "login.refused" in second
    assert not {"\x1b", "\u202e", "\r"} & set(result.stdout)
    chosen = run("--json", "audit", "--action", "job.", "--user", "bob", "--subject", "job_1", "--limit", "1")
    [event] = json.loads(chosen.stdout)["events"]
    assert (event["action"], event["user"], event["subject"]) == ("job.", "bob", "job_1")

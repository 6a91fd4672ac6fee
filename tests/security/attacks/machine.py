"""The worker's machine: files that are none of a job's business, tables and models that are traps, jobs that eat."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import pickle
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import duration_pb2

from security.attacks.ground import SECONDS, C, Fell, Skipped, Target, attack
from towpath.v1 import auth_service_pb2, fleet_service_pb2, job_pb2, job_service_pb2, table_pb2

SECRET = "s3cret-of-the-machine"
FINAL = (
    *(job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED),
    job_pb2.JOB_STATE_TIMED_OUT,
)
MODEL_FILES = ("model.ubj", "model.json", "model.skops", "model.pkl", "model.joblib", "encoder.json")
MODEL_TYPES = ("xgboost", "random_forest", "linear", "hist_gradient_boosting")
ZEROS = 160


def _needs_worker(target: Target) -> None:
    request = fleet_service_pb2.ListWorkersRequest(page_size=1000)
    workers = target.owner.fleet.ListWorkers(request, metadata=target.owner.me, timeout=SECONDS).workers
    user = target.owner.auth.WhoAmI(
        auth_service_pb2.WhoAmIRequest(), metadata=target.owner.me, timeout=SECONDS
    ).token.user
    if not any("train" in worker.job_types and worker.user == user for worker in workers):
        raise Skipped("this user has no worker that trains")


def _finish(target: Target, job: job_pb2.Job) -> job_pb2.Job:
    """The job once it is over. Raises `Fell` where it takes too long."""
    made = target.submit(target.owner, job)
    end = time.monotonic() + target.seconds
    while time.monotonic() < end:
        wait = job_service_pb2.WaitJobRequest(job_id=made.job_id, wait_timeout=duration_pb2.Duration(seconds=5))
        now: job_pb2.Job = target.owner.jobs.WaitJob(wait, metadata=target.owner.me, timeout=SECONDS).job
        if now.state in FINAL:
            return now
    raise Fell(f"the job is still {job_pb2.JobState.Name(now.state)} after {target.seconds:.0f} s")


def _train(path: str) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(data=table_pb2.DataRef(path=path), target_column="y", model_name="attack")
    return job_pb2.Job(train=spec)


def _refused(target: Target, job: job_pb2.Job, what: str) -> str:
    """A job must be refused as wrong input, in words that show nothing. Where it is not even taken, that is as good."""
    try:
        done = _finish(target, job)
    except Exception as error:
        code = getattr(error, "code", lambda: None)()
        if code is C.INVALID_ARGUMENT:
            return "refused by the scheduler"
        raise
    if done.state != job_pb2.JOB_STATE_FAILED or done.failure.cause != job_pb2.FAILURE_CAUSE_INVALID_INPUT:
        raise Fell(f"{what}: {job_pb2.JobState.Name(done.state)} {done.failure.type} {done.failure.message[:150]}")
    if SECRET in str(done):
        raise Fell(f"{what}: the job tells what is in the file")
    return "refused by the worker"


@attack("paths out of the folder", "`..`, absolute, /proc, devices, UNC, NUL, other spellings")
def paths(target: Target) -> str:
    _needs_worker(target)
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder) / "outside.csv"
        outside.write_text(f"x,y\n{SECRET},1\n", encoding="utf-8")
        up = "../" * 12 + str(outside).lstrip("/")
        tried = [
            *(str(outside), up, f"./{up}", f"a/../{up}", f"//{outside}", f"{outside}/.", "/etc/passwd", "..", ".", "/"),
            *(
                "/proc/self/environ",
                "/proc/self/root/etc/passwd",
                "/dev/stdin",
                "/dev/zero",
                "/proc/self/fd/0",
                "~/.netrc",
            ),
            *(r"..\..\x.csv", r"\\host\share\x.csv", r"C:\x.csv", "x.csv:stream", "CON.csv", "\uff0e\uff0e/x.csv"),
            *("x\u202e.csv", "%2e%2e/x.csv", "x" * 4_000 + ".csv", "a\0b.csv", "/dev/fd/0.csv", "x.csv/"),
        ]
        came = {_refused(target, _train(path), repr(path[:40])) for path in tried}
    return f"{len(tried)} paths: {', '.join(sorted(came))}"


@attack("URLs", "http, https, ftp, file, data and s3 in place of a path; nobody may call a server of ours")
def urls(target: Target) -> str:
    _needs_worker(target)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        port = server.getsockname()[1]
        for kind in ("http", "https", "ftp", "s3", "HTTP"):
            _refused(target, _train(f"{kind}://127.0.0.1:{port}/x.csv"), kind)
        _refused(target, _train("file:///etc/passwd"), "file")
        _refused(target, _train("data:text/csv,x,y"), "data")
        with contextlib.suppress(TimeoutError):
            server.accept()[0].close()
            raise Fell("the worker fetched a URL")
    return "refused; nobody called"


@contextlib.contextmanager
def _trap(target: Target) -> Iterator[tuple[Path, str]]:
    """A folder in the worker's data folder, and how a job names it."""
    if not target.data_dirs:
        raise Skipped("needs --data-dir, the worker's own")
    _needs_worker(target)
    folder = target.data_dirs[0] / f"attack-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder, folder.name
    finally:
        shutil.rmtree(folder)


@attack("links and pipes", "symbolic and hard links out of the folder, a pipe, a folder, a socket")
def links(target: Target) -> str:
    with _trap(target) as (folder, name), tempfile.TemporaryDirectory(dir=folder.parent.parent) as beside:
        outside = Path(beside) / "outside.csv"
        outside.write_text(f"x,y\n{SECRET},1\n", encoding="utf-8")
        (folder / "link.csv").symlink_to(outside)
        (folder / "out").symlink_to(beside)
        (folder / "loop.csv").symlink_to("loop.csv")
        os.mkfifo(folder / "pipe.csv")
        (folder / "folder.csv").mkdir()
        tried = ["link.csv", "out/outside.csv", "loop.csv", "pipe.csv", "folder.csv"]
        with contextlib.suppress(OSError):
            os.link(outside, folder / "hard.csv")
            tried.append("hard.csv")
        for one in tried:
            _refused(target, _train(f"{name}/{one}"), one)
    return f"{', '.join(tried)}: refused"


@attack("table bombs", "300,000 columns, a line of 10 MB, 10 GiB of zeros that take 10 MB, a zip in disguise")
def tables(target: Target) -> str:
    with _trap(target) as (folder, name):
        wide = ",".join(f"c{number}" for number in range(300_000))
        (folder / "wide.csv").write_text(f"{wide}\n{wide}\n", encoding="utf-8")
        (folder / "line.csv").write_text("y" * 10_000_000, encoding="utf-8")
        zeros = gzip.compress(bytes(64 << 20), 6)
        with (folder / "bomb.csv.gz").open("wb") as file:
            file.write(gzip.compress(b"x,y\n1,"))
            for _ in range(ZEROS):
                file.write(zeros)
        (folder / "disguise.parquet").write_bytes(b"PAR1" + secrets.token_bytes(1_000) + b"PAR1")
        (folder / "disguise.csv.zip").write_bytes(zeros[:10_000])
        (folder / "empty.csv").touch()
        tried = sorted(path.name for path in folder.iterdir())
        for one in tried:
            _refused(target, _train(f"{name}/{one}"), one)
    return f"{', '.join(tried)}: refused"


_models: list[Any] = []


def _trained(target: Target) -> Any:
    """A model of this user on the worker, trained once."""
    if not _models:
        name = f"attack-{secrets.token_hex(4)}"
        spec = job_pb2.TrainSpec(data=_numbers(50), target_column="y", model_name=name, model_type="linear")
        done = _finish(target, job_pb2.Job(train=spec))
        if done.state != job_pb2.JOB_STATE_SUCCEEDED:
            raise Skipped(f"no model could be trained: {done.failure.message[:100]}")
        _models.append(done.result.train.model)
    return _models[0]


def _published(target: Target, name: str) -> Path:
    """Where the worker keeps it; it puts it there once its result counts."""
    end = time.monotonic() + target.seconds
    while target.models_dir is not None and time.monotonic() < end:
        for folder in target.models_dir.glob(f"*/*/{name}/1"):
            return folder
        time.sleep(0.05)
    raise Skipped("the model is not under --models-dir")


@attack("output out of the folder", "predictions written to `..`, /tmp, a link and over a file that is there")
def outputs(target: Target) -> str:
    with _trap(target) as (folder, name), tempfile.TemporaryDirectory(dir=folder.parent.parent) as beside:
        model = _trained(target)
        (folder / "out").symlink_to(beside)
        (folder / "there.csv").write_text(SECRET, encoding="utf-8")
        outside = Path(beside) / "x.csv"
        tried = (str(outside), f"{name}/../../x.csv", f"{name}/out/x.csv", "/tmp/x.csv", f"{name}/there.csv", "x.sh")
        for one in tried:
            spec = job_pb2.PredictSpec(model_id=model.model_id, data=_numbers(1), output_path=one)
            _refused(target, job_pb2.Job(predict=spec), one)
        if outside.exists() or (folder / "there.csv").read_text(encoding="utf-8") != SECRET:
            raise Fell("it was written")
    return f"{len(tried)} paths: refused"


@attack("a model that is a pickle", "a model's files become pickles that run a command, with manifests that fit them")
def pickled(target: Target) -> str:
    if target.models_dir is None:
        raise Skipped("needs --models-dir, the worker's own")
    _needs_worker(target)
    model = _trained(target)
    folder = _published(target, model.name)
    with tempfile.TemporaryDirectory() as beside:
        ran = Path(beside) / "ran"
        try:
            for model_type in ("", *MODEL_TYPES):
                _plant(folder, model_type, pickle.dumps(_Trap(str(ran))))
                use = job_pb2.PredictSpec(model_id=model.model_id, data=_numbers(1))
                done = _finish(target, job_pb2.Job(predict=use))
                if ran.exists():
                    raise Fell(f"{model_type}: the pickle was loaded")
                if done.state == job_pb2.JOB_STATE_SUCCEEDED:
                    raise Fell(f"{model_type}: it predicted")
        finally:
            _models.clear()
            shutil.rmtree(folder.parent)
    return f"changed files, {', '.join(MODEL_TYPES)}: no command ran"


class _Trap:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self._path}'",))


def _plant(folder: Path, model_type: str, trap: bytes) -> None:
    """Make all files of a model pickles. Without a type the manifest stays as it was."""
    manifest = json.loads((folder / "towpath.json").read_text(encoding="utf-8"))
    names = {*MODEL_FILES, *manifest["files"]}
    for name in names:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(trap)
    if model_type:
        entry = {"sha256": hashlib.sha256(trap).hexdigest(), "size_bytes": len(trap)}
        manifest |= {"model_type": model_type, "files": dict.fromkeys(names, entry)}
        (folder / "towpath.json").unlink()
        (folder / "towpath.json").write_text(json.dumps(manifest), encoding="utf-8")


def _numbers(rows: int) -> table_pb2.DataRef:
    table = table_pb2.InlineTable(columns=["x", "y"])
    for number in range(rows):
        table.rows.add().extend([number, number % 7])
    return table_pb2.DataRef(table=table)


@attack("a job without an end", "a training of 100,000 trees with 2 seconds to run; then another job")
def endless(target: Target) -> str:
    _needs_worker(target)
    spec = job_pb2.TrainSpec(data=_numbers(2_000), target_column="y", model_name="attack", model_type="random_forest")
    spec.hyperparameters.update({"n_estimators": 100_000})
    seconds = duration_pb2.Duration
    done = _finish(
        target, job_pb2.Job(train=spec, execution_timeout=seconds(seconds=2), cancel_grace=seconds(seconds=1))
    )
    if done.state != job_pb2.JOB_STATE_TIMED_OUT:
        raise Fell(f"{job_pb2.JobState.Name(done.state)} {done.failure.message[:100]}")
    after = _finish(target, job_pb2.Job(list_models=job_pb2.ListModelsSpec(limit=1)))
    if after.state != job_pb2.JOB_STATE_SUCCEEDED:
        raise Fell(f"the next job: {job_pb2.JobState.Name(after.state)}")
    return "TIMED_OUT; the next job ran"

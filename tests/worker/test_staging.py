"""Models before they have their name: whole or not at all, a version for each, the last word to the scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.handling import TENANT, USER, make_folders, unreadable
from towpath.v1 import model_pb2
from towpath_worker import models, staging
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders

FILES = {"model.ubj": b"trees", "encoder.json": b"{}"}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def stage(folders: Folders, job_id: str, name: str = "late", content: bytes = b"trees") -> model_pb2.Model:
    model = model_pb2.Model(name=name, job_id=job_id, tenant=TENANT, user=USER, model_type="xgboost")
    return staging.stage(folders, model, {**FILES, "model.ubj": content}, {}, lease(job_id))


def lease(job_id: str) -> staging.Lease:
    return job_id, f"token of {job_id}"


def files(folders: Folders) -> list[Path]:
    return [path for path in folders.models.rglob("*") if path.is_file()]


def test_nobody_sees_a_staged_model_and_everybody_a_published_one(folders: Folders) -> None:
    model = stage(folders, "job_1")
    assert models.scan(folders) == []
    for reference in ("late", "late@1", model.model_id):
        with pytest.raises(InvalidInput, match="no model"):
            models.load(folders, reference, TENANT, USER)
    assert staging.leases(folders) == {lease("job_1")}
    staging.publish(folders, lease("job_1"))
    assert models.scan(folders) == [model]
    assert models.load(folders, "late@1", TENANT, USER).files == FILES
    assert staging.leases(folders) == set()


def test_only_the_very_lease_decides_about_its_model(folders: Folders) -> None:
    stage(folders, "job_1")
    for other in (("job_1", "another token"), ("job_2", "token of job_1"), ("job_1", "")):
        staging.publish(folders, other)
        staging.discard(folders, other)
    assert models.scan(folders) == []
    assert staging.leases(folders) == {lease("job_1")}


def test_a_version_that_was_told_is_told_to_no_other_training(folders: Folders) -> None:
    assert [stage(folders, job).version for job in ("a", "b", "c")] == [1, 2, 3]
    staging.publish(folders, lease("c"))
    staging.discard(folders, lease("b"))
    assert stage(folders, "d").version == 4
    assert stage(folders, "e", name="other").version == 1
    for job in ("a", "d"):
        staging.publish(folders, lease(job))
    assert sorted(model.version for model in models.scan(folders)) == [1, 3, 4]
    assert {model.version: model.job_id for model in models.scan(folders)} == {1: "a", 3: "c", 4: "d"}


def test_many_at_once_get_versions_of_their_own(folders: Folders) -> None:
    together = threading.Barrier(8)

    def train(number: int) -> list[int]:
        told = []
        for turn in range(5):
            together.wait()
            job = f"job_{number}_{turn}"
            told.append(stage(folders, job, content=job.encode()).version)
            staging.publish(folders, lease(job))
        return told

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(train, range(8)))
    assert sorted(version for versions in told for version in versions) == list(range(1, 41))
    for number, versions in enumerate(told):
        for turn, version in enumerate(versions):
            stored = models.load(folders, f"late@{version}", TENANT, USER)
            assert stored.files["model.ubj"] == f"job_{number}_{turn}".encode()
    assert staging.leases(folders) == set()


@pytest.mark.parametrize("killed_at", ["towpath.json", "lease", "model.ubj"])
def test_a_training_that_is_killed_while_it_writes_leaves_nothing(folders: Folders, killed_at: str) -> None:
    script = f"""
import os
from pathlib import Path
from towpath.v1 import model_pb2
from towpath_worker import staging
from towpath_worker.paths import Folders
write = staging._write
def kill(path, content):
    if path.name == {killed_at!r}:
        os._exit(9)
    write(path, content)
staging._write = kill
folders = Folders((), Path({str(folders.models)!r}), Path({str(folders.results)!r}))
model = model_pb2.Model(name="late", tenant={TENANT!r}, user={USER!r})
staging.stage(folders, model, {{"model.ubj": b"x" * 1000}}, {{}}, ("job_1", "t"))
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert models.scan(folders) == []
    assert stage(folders, "job_2").version == 2, "the folder of the killed one still reserves its version"
    staging.sweep(folders, {lease("job_2")})
    assert staging.leases(folders) == {lease("job_2")}
    staging.publish(folders, lease("job_2"))
    staging.sweep(folders, ())
    assert {path.parent for path in files(folders)} == {folders.models / TENANT / USER / "late" / "2"}


def test_a_publication_that_was_killed_in_the_middle_is_finished(folders: Folders) -> None:
    model = stage(folders, "job_1")

    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        staging.publish(folders, lease("job_1"), named=kill)
    assert models.scan(folders) == [model]
    staging.sweep(folders, {lease("job_1")})
    staging.publish(folders, lease("job_1"))
    assert models.scan(folders) == [model]
    assert staging.leases(folders) == set()


def test_what_is_refused_or_forgotten_is_deleted(folders: Folders) -> None:
    for job in ("refused", "forgotten", "waiting"):
        stage(folders, job)
    (folders.models / staging.STAGING / "of an older worker").mkdir()
    staging.discard(folders, lease("refused"))
    assert staging.leases(folders) == {lease("forgotten"), lease("waiting")}
    staging.sweep(folders, {lease("waiting")})
    assert staging.leases(folders) == {lease("waiting")}
    staging.sweep(folders, ())
    assert files(folders) == []
    assert not (folders.models / staging.STAGING).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
@pytest.mark.parametrize("part", [".", TENANT, f"{TENANT}/{USER}/late", f"{TENANT}/{USER}/late/1/lease"])
def test_what_cannot_be_read_does_not_pass_for_nothing(folders: Folders, part: str) -> None:
    model = stage(folders, "job_1")
    with unreadable(folders.models / staging.STAGING / part):
        with pytest.raises(OSError, match="symbolic links"):
            staging.publish(folders, lease("job_1"))
        with pytest.raises(OSError, match="symbolic links"):
            staging.leases(folders)
        staging.discard(folders, lease("job_1"))
        staging.sweep(folders, ())
    assert staging.publish(folders, lease("job_1"))
    assert models.scan(folders) == [model]
    assert not staging.publish(folders, lease("job_1"))


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
def test_one_model_that_cannot_be_read_holds_up_no_other(folders: Folders) -> None:
    stage(folders, "job_1")
    model = stage(folders, "job_2")
    stage(folders, "job_3")
    with unreadable(folders.models / staging.STAGING / TENANT / USER / "late" / "1" / "lease"):
        assert staging.publish(folders, lease("job_2"))
        staging.sweep(folders, ())
    assert models.scan(folders) == [model]
    assert staging.leases(folders) == {lease("job_1")}


def test_a_publication_that_failed_after_the_rename_is_synced_by_the_next(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(folders, "job_1")
    synced = []

    def sync(folder: Path) -> None:
        synced.append(folder)
        if len(synced) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(staging, "_sync_folder", sync)
    with pytest.raises(OSError, match="Input/output"):
        staging.publish(folders, lease("job_1"))
    assert staging.publish(folders, lease("job_1"))
    assert synced.count(folders.models / TENANT / USER / "late") == 2
    assert staging.leases(folders) == set()


def test_a_disk_that_takes_no_more_leaves_no_half_model(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        stage(folders, "job_1")
    assert files(folders) == []


def test_what_a_person_put_in_the_way_is_not_overwritten(folders: Folders) -> None:
    stage(folders, "job_1")
    foreign = folders.models / TENANT / USER / "late" / "1"
    foreign.mkdir(parents=True)
    (foreign / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="move it elsewhere"):
        staging.publish(folders, lease("job_1"))
    assert (foreign / "mine.txt").read_text() == "x"
    foreign.rename(foreign.with_name("mine"))
    staging.publish(folders, lease("job_1"))
    assert [model.version for model in models.scan(folders)] == [1]

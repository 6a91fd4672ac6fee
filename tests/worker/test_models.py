"""The model store: who sees which model, nothing loaded that was changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from support.handling import TENANT, USER, make_folders, publish
from towpath.v1 import model_pb2
from towpath_worker import models
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders

FILES = {"model.ubj": b"trees", "encoder.json": b"{}"}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def a_model(name: str = "late", job_id: str = "", **fields: str) -> model_pb2.Model:
    filled = {"tenant": TENANT, "user": USER, **fields}
    return model_pb2.Model(name=name, job_id=job_id, model_type="xgboost", metrics={"accuracy": 0.9}, **filled)  # type: ignore[arg-type]


def test_published_models_are_found_by_id_name_and_version(folders: Folders) -> None:
    first = publish(folders, a_model(), FILES, {"training_metrics": {"accuracy": 1.0}})
    second = publish(folders, a_model(), {**FILES, "model.ubj": b"other"})
    assert (first.version, second.version) == (1, 2)
    assert re.fullmatch(r"mdl_[0-7][0-9a-hjkmnp-tv-z]{12}", first.model_id)
    assert first.size_bytes == sum(map(len, FILES.values()))
    for reference, model in ((first.model_id, first), ("late@1", first), ("late", second), ("late@2", second)):
        assert models.load(folders, reference, TENANT, USER).model == model
    loaded = models.load(folders, "late@1", TENANT, USER)
    assert loaded.files == FILES
    assert loaded.manifest["training_metrics"] == {"accuracy": 1.0}


def test_ids_grow_with_time() -> None:
    ids = [models.new_model_id() for _ in range(3)]
    assert len(set(ids)) == 3
    assert sorted(each[:10] for each in ids) == [each[:10] for each in ids]


def test_scan_is_newest_first_and_passes_over_broken_folders(folders: Folders) -> None:
    made = [publish(folders, a_model(name), FILES) for name in ("a", "b", "a")]
    home = folders.models / TENANT / USER
    (home / "a" / "7").mkdir()
    (home / "a" / "notes").mkdir()
    (home / "stray.txt").write_text("x")
    for number, text in enumerate(("", "{}", "[]", '{"format": 2, "files": {"a": {}}}', "\xff"), 8):
        (home / "a" / str(number)).mkdir()
        (home / "a" / str(number) / models.MANIFEST).write_text(text)
    assert models.scan(folders) == made[::-1]
    assert models.scan(folders, TENANT, USER) == made[::-1]
    assert models.scan(make_folders(folders.models / "none")) == []


def test_users_and_tenants_are_apart(folders: Folders) -> None:
    mine = publish(folders, a_model(), FILES)
    others = [
        publish(folders, a_model(user="bob"), FILES),
        publish(folders, a_model(tenant="other"), FILES),
    ]
    assert {model.version for model in (mine, *others)} == {1}
    assert models.scan(folders, TENANT, USER) == [mine]
    for model in others:
        with pytest.raises(InvalidInput, match="no model"):
            models.load(folders, model.model_id, TENANT, USER)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "con", "NUL.txt", "x.", "a:b", "ä", ".hidden", "%2e"])
def test_any_name_of_an_owner_stays_one_folder(folders: Folders, name: str) -> None:
    model = publish(folders, a_model(tenant=name, user=name), FILES)
    assert models.load(folders, model.model_id, name, name).model == model
    (tenant,) = [path for path in folders.models.iterdir() if path.name != ".staging"]
    assert re.fullmatch(r"[A-Za-z0-9%_][A-Za-z0-9%._-]*", tenant.name)
    assert not tenant.name.lower().startswith(("con", "nul"))


def test_an_unknown_model_is_told_with_what_there_is(folders: Folders) -> None:
    publish(folders, a_model("flights_late"), FILES)
    for reference, told in (
        ("flight_late", "did you mean 'flights_late'"),
        ("flights_late@9", "no version 9; there are: 1"),
        ("mdl_0000000000000", "no model"),
        ("flights_late@x", "no version x"),
        ("flights_late@\N{SUPERSCRIPT TWO}", "no version \N{SUPERSCRIPT TWO}"),
        ("flights_late@" + "9" * 5_000, "no version 9"),
        ("../../etc", "no model"),
    ):
        with pytest.raises(InvalidInput, match=told):
            models.load(folders, reference, TENANT, USER)


def test_changed_files_are_not_loaded(folders: Folders) -> None:
    model = publish(folders, a_model(), FILES)
    home = folders.models / TENANT / USER / "late" / "1"
    (home / "model.ubj").write_bytes(b"evil!")
    with pytest.raises(InvalidInput, match=r"was changed .*model\.ubj"):
        models.load(folders, model.model_id, TENANT, USER)
    (home / "model.ubj").unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        models.load(folders, model.model_id, TENANT, USER)
    manifest = json.loads((home / models.MANIFEST).read_text())
    manifest["files"] = {"../../../../../secret": manifest["files"]["model.ubj"]}
    (home / models.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InvalidInput, match="never loaded"):
        models.load(folders, model.model_id, TENANT, USER)


def test_the_manifest_is_the_model_and_more(folders: Folders) -> None:
    model = publish(folders, a_model(), FILES, {"notes": ["n"]})
    text = (folders.models / TENANT / USER / "late" / "1" / models.MANIFEST).read_text()
    assert json_format.Parse(text, model_pb2.Model(), ignore_unknown_fields=True) == model
    assert json.loads(text)["notes"] == ["n"]
    assert set(json.loads(text)["files"]) == set(FILES)


def test_importing_the_store_imports_no_machine_learning() -> None:
    script = "import sys, towpath_worker.models, towpath_worker.handlers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "numpy", "sklearn", "xgboost", "pyarrow", "skops"} & set(loaded)

"""Line 28 of the catalogue: a model is data. No pickle is ever loaded, and nothing is parsed that was changed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pytest

from support.handling import TENANT, USER, make_folders
from support.inotify import IS_AVAILABLE, watching
from support.learning import mixed, run_predict, run_train
from towpath.v1 import model_pb2
from towpath_worker import models, pyfunc
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders
from towpath_worker.tabular import predictor

#: Model type and hyperparameters: what is stored is of the same kinds as after a long training.
TINY: dict[str, dict[str, Any]] = {
    "xgboost": {"n_estimators": 2},
    "random_forest": {"n_estimators": 2},
    "gradient_boosting": {"max_iter": 2},
    "logistic_regression": {},
    "neural_network": {"epochs": 2, "hidden_layer_sizes": [2]},
}
FRAME = mixed("wine", "kind")
#: What pickles have looked up, while a test looks on. A hook is never removed.
looked_up: list[str] | None = None


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and looked_up is not None:
        looked_up.append(".".join(map(str, arguments)))


sys.addaudithook(_look)


@pytest.fixture
def unpickled() -> Iterator[list[str]]:
    """The classes and functions that pickles name from here on, anywhere in this process."""
    global looked_up  # noqa: PLW0603
    looked_up = []
    yield looked_up
    looked_up = None


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.canary,)


def tiny(folders: Folders, model_type: str) -> model_pb2.Model:
    """A model of this type, trained in no time."""
    fields: dict[str, Any] = {"model_type": model_type, "model_name": model_type, "hyperparameters": TINY[model_type]}
    return run_train(folders, FRAME, "kind", **fields).model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folders, dict[str, model_pb2.Model]]:
    """One model of each kind of file."""
    folders = make_folders(tmp_path_factory.mktemp("trained"))
    return folders, {model_type: tiny(folders, model_type) for model_type in ("xgboost", "logistic_regression")}


class Home:
    """The folder of a copied model, to be tampered with."""

    def __init__(self, folders: Folders, model: model_pb2.Model) -> None:
        self.folders, self.model = folders, model
        self.folder = folders.models / TENANT / USER / model.name / "1"

    def write(self, name: str, content: bytes) -> None:
        """Changes a file as somebody does who can also write the manifest."""
        (self.folder / name).write_bytes(content)
        self.manifest(lambda told: told["files"].update({name: {"sha256": hashlib.sha256(content).hexdigest()}}))

    def manifest(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Changes the manifest."""
        path = self.folder / models.MANIFEST
        told = json.loads(path.read_bytes())
        change(told)
        path.write_text(json.dumps(told))

    def refused(self) -> str:
        """What a prediction with it says."""
        with pytest.raises(InvalidInput) as told:
            run_predict(self.folders, self.model, FRAME)
        return str(told.value)


@pytest.fixture(params=["xgboost", "logistic_regression"])
def home(request: pytest.FixtureRequest, trained: tuple[Folders, dict[str, model_pb2.Model]], tmp_path: Path) -> Home:
    """A fresh copy of a model."""
    folders, made = trained
    copied = make_folders(tmp_path)
    model = made[request.param]
    old = Home(folders, model).folder
    new = Home(copied, model)
    new.folder.mkdir(parents=True)
    for path in old.iterdir():
        (new.folder / path.name).write_bytes(path.read_bytes())
    run_predict(copied, model, FRAME)
    return new


def model_file(home: Home) -> str:
    return "model.ubj" if home.model.model_type == "xgboost" else "model.skops"


def test_line_28_training_and_predicting_load_no_pickle(tmp_path: Path, unpickled: list[str]) -> None:
    pickle.loads(pickle.dumps(Path()))
    assert unpickled, "this Python does not tell what is unpickled"
    unpickled.clear()
    folders = make_folders(tmp_path)
    for model_type in TINY:
        model = tiny(folders, model_type)
        run_predict(folders, model, FRAME)
        pyfunc._load_pyfunc(str(Home(folders, model).folder))
    assert unpickled == []


def test_line_28_what_is_a_pickle_is_refused_whatever_it_is_called(
    home: Home, tmp_path: Path, unpickled: list[str]
) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Evil(canary))
    dumped = io.BytesIO()
    joblib.dump(Evil(canary), dumped)
    saved = io.BytesIO()
    np.save(saved, np.array([Evil(canary)], dtype=object), allow_pickle=True)
    sound = (home.folder / model_file(home)).read_bytes()
    for content in (payload, dumped.getvalue(), saved.getvalue(), b"", sound[:100], b"{L" + b"\xff" * 20):
        home.write(model_file(home), content)
        home.refused()
    home.write(model_file(home), sound)
    encoder = (home.folder / "encoder.json").read_bytes()
    home.write("encoder.json", payload)
    home.refused()
    home.write("encoder.json", encoder)
    # Beside the model: it is not opened. In the manifest: neither.
    (home.folder / "model.pkl").write_bytes(payload)
    run_predict(home.folders, home.model, FRAME)
    for name in ("model.pkl", "model.joblib", "python_model.pkl", "conda.yaml", "../evil"):
        home.manifest(lambda told, name=name: told["files"].update({name: {"sha256": "0" * 64}}))  # type: ignore[misc]
        assert "never loaded" in home.refused()
        home.manifest(lambda told, name=name: told["files"].pop(name))  # type: ignore[misc]
    # MLflow's description is for MLflow.
    home.write("MLmodel", b"flavors: {python_function: {loader_module: evil, cloudpickle_version: 3.0.0}}")
    run_predict(home.folders, home.model, FRAME)
    assert not canary.exists()
    assert unpickled == []


def repacked(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(sink, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return sink.getvalue()


def node(module: str, name: str, loader: str, **more: Any) -> dict[str, Any]:
    return {"__module__": module, "__class__": name, "__loader__": loader, "protocol": 2, **more}


def test_line_28_a_skops_file_holds_nothing_but_our_own_types(
    trained: tuple[Folders, dict[str, model_pb2.Model]], tmp_path: Path, unpickled: list[str]
) -> None:
    folders, made = trained
    stored = models.load(folders, made["logistic_regression"].model_id, TENANT, USER)
    sound = stored.files["model.skops"]
    canary = tmp_path / "canary"
    arguments = node("builtins", "tuple", "TupleNode", content=[])
    foreign: list[Mapping[str, Any]] = [
        node("os", "system", "FunctionNode"),
        node("subprocess", "Popen", "TypeNode"),
        node("builtins", "eval", "FunctionNode"),
        node("operator", "methodcaller", "OperatorFuncNode", attrs=arguments),
        node("builtins", "str", "MethodNode", content={"func": "format", "obj": node("builtins", "str", "JsonNode")}),
        node("sklearn.datasets", "fetch_openml", "FunctionNode"),
        node("sklearn.pipeline", "Pipeline", "ObjectNode"),
        node("numpy", "load", "FunctionNode"),
        node("builtins", "list", "NobodyKnowsNode"),
        node("builtins", "list", "ReduceNode"),
    ]

    def hidden(extra: Mapping[str, Any]) -> bytes:
        def change(name: str, content: bytes) -> bytes:
            if name != "schema.json":
                return content
            told = json.loads(content)
            told["content"]["content"]["hidden"] = extra
            return json.dumps(told).encode()

        return repacked(sound, change)

    def attempt(content: bytes) -> str:
        changed = models.StoredModel(stored.model, {**stored.files, "model.skops": content}, stored.manifest)
        with pytest.raises(InvalidInput) as told:
            predictor.load(changed)
        return str(told.value)

    for extra in foreign:
        assert "never loaded" in attempt(hidden(extra)), extra
    saved = io.BytesIO()
    np.save(saved, np.array([Evil(canary)], dtype=object), allow_pickle=True)
    attempt(repacked(sound, lambda name, content: saved.getvalue() if name.endswith(".npy") else content))
    assert not canary.exists()
    assert unpickled == []
    predictor.load(stored)


def test_line_28_nothing_is_parsed_before_its_hash_is_checked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(predictor, "load", parse)
    for name in ("encoder.json", "MLmodel", model_file(home)):
        sound = (home.folder / name).read_bytes()
        for content in (sound + b"\0", sound[:-1], bytes([sound[0] ^ 1]) + sound[1:], b""):
            (home.folder / name).write_bytes(content)
            assert f"was changed after its training ({name})" in home.refused()
        (home.folder / name).write_bytes(sound)


def test_line_28_a_broken_manifest_is_told_as_that(home: Home) -> None:
    sound = json.loads((home.folder / models.MANIFEST).read_bytes())
    digest = {"sha256": "0" * 64}
    entries: list[Any] = [1, None, {}, [], {"sha256": None}, digest]
    values: dict[str, list[Any]] = {
        "files": [{}, [], 1, None, ["model.ubj"], *({"MLmodel": entry} for entry in entries)],
        "format": [0, 2, None, "1", [1]],
        "version": ["x", {}, 1e99],
        "model_type": ["pickle", "", "../x", 7],
        "labels": [1, "x", {"kind": "x", "classes": []}],
    }
    changed: list[Any] = [[], {}, 1, None, "text", [sound]]
    changed += [{**sound, name: value} for name, given in values.items() for value in given]
    changed += [
        {key: value for key, value in sound.items() if key != name} for name in ("labels", "estimator", "format")
    ]
    raw = [json.dumps(one).encode() for one in changed]
    for content in [*raw, b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"\x80\x04."]:
        (home.folder / models.MANIFEST).write_bytes(content)
        with pytest.raises(InvalidInput):
            predictor.load(models.load_folder(home.folder, "it"))
        models.scan(home.folders)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_line_28_no_link_leads_into_a_model_or_out_of_it(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    home.folder.rename(elsewhere)
    for name in ("encoder.json", models.MANIFEST, model_file(home)):
        for put in (
            lambda path, target: path.symlink_to(target),
            lambda path, target: os.link(target, path),
            lambda path, _: os.mkfifo(path),
            lambda path, _: path.mkdir(),
        ):
            home.folder.mkdir()
            for path in elsewhere.iterdir():
                if path.name != name:
                    (home.folder / path.name).write_bytes(path.read_bytes())
            put(home.folder / name, elsewhere / name)
            if IS_AVAILABLE:
                with watching(elsewhere / name) as looker:
                    home.refused()
                    assert looker.seen() == set()
            else:
                home.refused()
            for path in home.folder.iterdir():
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            home.folder.rmdir()
    for linked in (home.folder, home.folder.parent):
        aside = tmp_path / f"aside{len(linked.parts)}"
        if linked.exists():
            linked.rename(aside)
        else:
            aside = elsewhere
        linked.symlink_to(aside)
        home.refused()
        assert models.scan(home.folders) == []
        linked.unlink()
        if linked == home.folder:
            elsewhere.rename(linked)
            run_predict(home.folders, home.model, FRAME)

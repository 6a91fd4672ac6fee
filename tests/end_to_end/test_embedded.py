"""Scheduler and worker inside this process: started, used, and gone without a trace."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

import towpath_server
from towpath import Client
from towpath.errors import Unauthenticated, Unavailable
from towpath.settings import ADDRESS_VARIABLE, TOKEN_FILE_VARIABLE


def test_train_and_predict_inside_this_process(tmp_path: Path) -> None:
    rows = [{"x": number, "y": "high" if number > 20 else "low"} for number in range(60)]
    with (
        towpath_server.embedded(f"sqlite:///{tmp_path / 'jobs.db'}", state_dir=tmp_path / "worker"),
        Client() as client,
    ):
        trained = client.train(rows, "y", model_type="logistic_regression", name="level").result(timeout=100)
        assert trained.metrics["accuracy"] > 0.8
        predicted = client.predict("level", [{"x": 1}, {"x": 59}]).result(timeout=100)
        assert [row["prediction"] for row in predicted.rows] == ["low", "high"]
        assert [model.name for model in client.models()] == ["level"]


def test_nothing_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "elsewhere:1")
    monkeypatch.delenv(TOKEN_FILE_VARIABLE, raising=False)
    threads, children = set(threading.enumerate()), psutil.Process().children(recursive=True)
    handlers = ("support.job_types",)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    with towpath_server.embedded(handlers=handlers, allow=("test.echo",)) as address:
        with Client(address, address.token) as client:
            assert client.submit("test.echo", {"value": 3}).result(timeout=60) == 3
        with Client(address, "wrong") as stranger, pytest.raises(Unauthenticated):
            stranger.whoami()
    assert os.environ[ADDRESS_VARIABLE] == "elsewhere:1"
    assert TOKEN_FILE_VARIABLE not in os.environ
    left = [thread.name for thread in set(threading.enumerate()) - threads if thread.name.startswith("towpath")]
    assert left == []
    assert psutil.Process().children(recursive=True) == children
    with Client(address, address.token, timeout=1) as client, pytest.raises(Unavailable):
        client.whoami()


def test_what_keeps_the_worker_from_starting_is_raised() -> None:
    with pytest.raises(Exception, match="no_such_module"), towpath_server.embedded(handlers=("no_such_module",)):
        pass


def test_a_second_life_on_the_same_file_keeps_its_jobs(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'jobs.db'}"
    with towpath_server.embedded(store, worker=False), Client() as client:
        job = client.submit("some.type", {"a": 1})
    with towpath_server.embedded(store, worker=False), Client() as client:
        assert client.get(job.job_id).state.name == "QUEUED"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"store": "mysql://x"},
            "store: give sqlite:///PATH, postgresql://USER@HOST/DATABASE or memory:, not mysql:...",
        ),
        ({"data_dirs": ["/no/such/folder"]}, "data_dirs: /no/such/folder is not a folder"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"), towpath_server.embedded(**arguments):
        pass

"""Settings from their sources, and what the machine says of itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from pydantic import ValidationError

from towpath_worker import machine, portable
from towpath_worker.settings import WorkerSettings, load


@pytest.fixture(autouse=True)
def _empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TOWPATH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "worker.toml"
    config.write_text('server = "a:1"\nname = "file"\nslots = 1\nhandlers = ["one", "two"]\nlabels = { room = "3" }\n')
    monkeypatch.setenv("TOWPATH_WORKER_SLOTS", "2")
    monkeypatch.setenv("TOWPATH_WORKER_NAME", "environment")
    monkeypatch.setenv("TOWPATH_ADDRESS", "b:2")
    settings = load({"name": "flag", "allow": None}, config)
    assert (settings.name, settings.slots, settings.server) == ("flag", 2, "b:2")
    assert (settings.handlers, settings.labels) == (("one", "two"), {"room": "3"})


def test_the_token_is_taken_from_the_nearest_source_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def token(flags: dict[str, object], config: Path | None = None) -> str | None:
        found = load(flags, config).token
        return found.get_secret_value() if found else None

    assert token({}) is None
    (tmp_path / "towpath").mkdir()
    (tmp_path / "towpath" / "token").write_text("of-the-user\n")
    assert token({}) == "of-the-user"
    config, file = tmp_path / "worker.toml", tmp_path / "token"
    file.write_text(" of-the-flag \n")
    config.write_text('token = "of-the-file"\n')
    assert token({}, config) == "of-the-file"
    monkeypatch.setenv("TOWPATH_TOKEN", "of-the-environment")
    assert token({}, config) == "of-the-environment"
    assert token({"token_file": file}, config) == "of-the-flag"
    assert "of-the" not in repr(load({}, config))


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "worker.toml"
    config.write_text("slot = 3\n")
    with pytest.raises(ValidationError, match="slot"):
        load({}, config)
    with pytest.raises(ValidationError):
        WorkerSettings(slots=0)


def test_the_machine_has_something() -> None:
    described = machine.describe()
    assert 1 <= described.cpu_count <= (os.cpu_count() or 1)
    assert described.memory_mb > 0
    assert machine.load(3).free_slots == 3


def test_the_end_of_a_process_is_told_in_words() -> None:
    assert portable.describe_exit(3)[0] == "EXIT_3"
    assert "SIGKILL: it may have run out of memory" in portable.describe_exit(-signal.SIGKILL)[1]
    assert "crash in native code" in portable.describe_exit(-signal.SIGSEGV)[1]


def test_a_lock_is_had_by_one(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a+b") as first, (tmp_path / "lock").open("a+b") as second:
        assert portable.lock(first)
        assert not portable.lock(second)

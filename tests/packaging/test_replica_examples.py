"""The files in examples/replicas: each is sound, knows its options, holds no secret, and its command starts."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import CliApp

from support import processes
from support.certificates import certify
from towpath_server import store_url
from towpath_server.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "replicas"
IGNORED = (FOLDER / ".gitignore").read_text(encoding="utf-8").split()
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file() and path.name not in IGNORED)
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SCHEDULERS = {name: service for name, service in SERVICES.items() if service["image"] == "towpath-server"}
UNIT = (FOLDER / "towpath-server@.service").read_text(encoding="utf-8")
ENVIRONMENT = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / "server.env").read_text(encoding="utf-8"), re.MULTILINE))
PROXY = (FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
[UNIT_WORDS] = [shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)]
# What libpq reads by itself.
LIBPQ = {"PGPASSWORD", "PGPASSFILE"}
COMMANDS = {"compose": SCHEDULERS["towpath-1"]["command"], "unit": UNIT_WORDS}
ENVIRONMENTS = {"compose": SCHEDULERS["towpath-1"]["environment"], "unit": ENVIRONMENT}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_and_variables_are_taken_as_they_stand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody's own file.
    monkeypatch.setenv("TOWPATH_SERVER_CONFIG", str(tmp_path / "none.toml"))
    variables = {variable: value for variable, value in ENVIRONMENTS[name].items() if variable not in LIBPQ}
    for variable, value in variables.items():
        assert variable.removeprefix("TOWPATH_SERVER_").lower() in Settings.model_fields
        monkeypatch.setenv(variable, value)
    taken = CliApp.run(Settings, cli_args=[word.replace("%i", "7070") for word in COMMANDS[name]])
    assert (taken.listen, taken.store) == ("0.0.0.0:7070", variables["TOWPATH_SERVER_STORE"])
    assert store_url.is_postgres(taken.store)


@pytest.mark.parametrize("name", COMMANDS)
def test_its_command_starts(name: str, tmp_path: Path) -> None:
    given = "\n".join(COMMANDS[name])
    given = given.replace("/etc/towpath", str(tmp_path)).replace("/var/lib/towpath", str(tmp_path / "config"))
    given = re.sub(r"^0\.0\.0\.0:(7070|%i)$", "127.0.0.1:0", given, flags=re.MULTILINE)
    words = [sys.executable, "-m", "towpath_server", *given.split("\n")]
    certify(tmp_path)
    with processes.start(words, tmp_path, processes.on_store("memory:")):
        assert (tmp_path / "config" / "token").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_stands_in_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not any(store_url.holds_password(word) for word in text.split())
    for value in re.findall(r"^\s*\w*PASSWORD\w*\s*[:=](.*)$", text, re.MULTILINE):
        assert value.strip() in ("", "${POSTGRES_PASSWORD:?write it into .env}")


def test_what_its_comments_write_down_is_kept_out_of_git() -> None:
    comments = "\n".join(re.findall(r"^#(.*)$", (FOLDER / "compose.yaml").read_text(encoding="utf-8"), re.MULTILINE))
    written = set(re.findall(r"> (\S+?)\)?$|/token (\S+)$", comments, re.MULTILINE))
    assert {name for pair in written for name in pair if name} == set(IGNORED)


def test_the_schedulers_of_compose_are_alike_and_behind_the_balancer() -> None:
    assert len(SCHEDULERS) == 3
    assert len({str(service) for service in SCHEDULERS.values()}) == 1
    served = re.findall(r"^    server \w+ ([\w-]+):(\d+)$", PROXY, re.MULTILINE)
    assert served == [(name, "7070") for name in SCHEDULERS]
    assert set(SERVICES["balancer"]["depends_on"]) == SCHEDULERS.keys()
    # One that looks into connections would give a worker's calls to schedulers that do not know it.
    assert re.findall(r"^\s*mode (\w+)$", PROXY, re.MULTILINE) == ["tcp"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["balancer"]["ports"])


def test_what_compose_names_is_there() -> None:
    volumes = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    for volume in volumes:
        assert (FOLDER / volume).exists() if volume.startswith(".") else volume in COMPOSE["volumes"]
    build = SCHEDULERS["towpath-1"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == ROOT
    copied = re.findall(r"^COPY (.*) \S+$", (context / build["dockerfile"]).read_text(encoding="utf-8"), re.MULTILINE)
    assert all((context / name).exists() for line in copied for name in line.split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "towpath-server@7071.service"
    unit.write_text(UNIT.replace("/opt/towpath/bin/towpath-server", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="there is no haproxy")
def test_haproxy_takes_its_configuration() -> None:
    done = subprocess.run(["haproxy", "-c", "-f", FOLDER / "haproxy.cfg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

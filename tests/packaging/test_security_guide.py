"""What docs/security.md tells its reader to type is typed here, with a scheduler and a worker behind TLS."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from support import processes
from towpath import Client

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
# What trains and predicts takes longer to begin than all the rest here; so does the whole of the attack.
LESS = {"--allow train,predict,list_models": "--allow list_models", "0.0.0.0:7070": "127.0.0.1:0"}
TRIED = ("no token", "wrong token", "words of errors")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who types what the guide says, on one machine in place of two."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address = "sched.example:7070"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOWPATH_", "XDG_"))}
        self.environment = {**kept, "HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

    def meant(self, text: str) -> str:
        for said, done in LESS.items():
            text = text.replace(said, done)
        text = text.replace("sched.example:7070", self.address).replace("sched.example", "127.0.0.1")
        return text.replace("~/", f"{self.home}/")

    def run(self, lines: str) -> str:
        """A block; what it exports holds for those that follow."""
        exports = self.home / "exports"
        script = f"set -euo pipefail\n{self.meant(lines)}\nenv -0 > {exports}\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"
        exported = (pair.partition("=") for pair in exports.read_text().split("\0") if pair.startswith("TOWPATH_"))
        self.environment |= {name: value for name, _, value in exported}
        return done.stdout

    def words(self, line: str) -> list[str]:
        return shlex.split(self.meant(line.removeprefix("$ ")))


def test_every_command_of_the_checklist_does_what_it_says(tmp_path: Path) -> None:
    encrypt, look, tokens, quotas, invite, after, attack, lost = blocks("bash")
    serve, join = blocks("console")
    reader = Reader(tmp_path)
    (tmp_path / "tables").mkdir()
    assert "server.pem" in reader.run(encrypt)
    with processes.start(reader.words(serve), tmp_path, reader.environment) as (_, address):
        reader.address = address
        reader.run(look)
        reader.run(tokens)
        reader.run(quotas)
        reader.run(invite)
        for secret in ("alice.token", "dashboard.token", "den.invitation"):
            assert (tmp_path / secret).stat().st_mode & 0o777 == 0o600
        worker = {name: value for name, value in reader.environment.items() if not name.startswith("TOWPATH_")}
        with processes.start(reader.words(join), tmp_path, worker):
            ca, cert, key = (Path(reader.environment[f"TOWPATH_TLS_{name}"]) for name in ("CA", "CERT", "KEY"))
            alices = (tmp_path / "alice.token").read_text(encoding="utf-8").strip()
            with Client(address, alices, tls_ca=ca, tls_cert=cert, tls_key=key) as alice:
                assert alice.submit("list_models").result().total_count == 0
            said = reader.run(after)
        assert "enrol" in said
        assert "dashboard" in said
        assert '"list_models"' in said
        only = " ".join(f"--only '{name}'" for name in TRIED)
        assert f"{len(TRIED)} held" in reader.run(f"{attack.rstrip()} {only}")
    token = tmp_path / ".config" / "towpath" / "token"
    before = token.read_text(encoding="utf-8")
    assert f"written to {token}" in reader.run(lost)
    assert token.read_text(encoding="utf-8") != before
    assert [aside.read_text(encoding="utf-8") for aside in token.parent.glob("token.*")] == [before]
    with processes.start(reader.words(serve), tmp_path, reader.environment) as (_, address):
        reader.address = reader.environment["TOWPATH_ADDRESS"] = address
        assert "new-token" in reader.run("towpath audit --limit 5")


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "docs" / "security.md", ROOT / "SECURITY.md"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", text):
            name, _, heading = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), target
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert not heading or heading in {one.lower().replace(" ", "-") for one in headings}, target


def test_every_line_that_the_threat_model_names_has_a_test() -> None:
    named = {
        int(number)
        for row in re.findall(r"\| ([^|]*\blines? [^|]*) \|$", GUIDE, re.MULTILINE)
        for number in re.findall(r"\d+", row)
    }
    assert set(range(21, 32)) <= named
    lines = {
        int(number)
        for path in (ROOT / "tests" / "faults").rglob("test_*.py")
        for number in re.findall(r"def test_line_(\d\d)_", path.read_text(encoding="utf-8"))
    }
    assert named <= lines

"""Line 31 of the catalogue: a name is one line in every log, and visible as what it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from towpath.cli.output import printable

NAMES = {
    "script": "<script>alert(1)</script>",
    "lines": "box\r\n2026-11-22T05:20:11Z [info     ] worker joined name=evil",
    "escapes": "box\x1b[2J\x1b]0;title\x07\x9b31m",
    "bidi": "box\u202eexe.\u2066x\u2069\u200f",
    "separators": "box\u2028one\u2029two\x85three\x0bfour\x0cfive",
    "odd": "box\x00\x7f\ud800\ufeff\u200b\xad",
    "facts": 'box" level=error user=admin \\',
    "tabs": "box\tlevel=error",
}
SERVER = """
import logging, sys
from towpath_server.log import Logger, to_stderr
names = {names!r}
to_stderr("debug", as_json={as_json})
log = Logger("one")
for name in names.values():
    log.info("worker joined", name=name, nested=[name], error=ValueError(name))
    log.warning(name)
    logging.getLogger("library").warning("odd: %s", name)
    try:
        raise ValueError(name)
    except ValueError:
        log.error("broke", exc_info=True)
        logging.getLogger("library").exception(name)
"""
WORKER = """
import logging
from towpath_worker.log import logger, to_stderr
names = {names!r}
to_stderr("debug")
log = logger("one")
for name in names.values():
    log.info("worker joined", name=name, nested=[name], error=ValueError(name))
    log.warning(name)
    logging.getLogger("library").warning("odd: %s", name)
    try:
        raise ValueError(name)
    except ValueError:
        log.error("broke", exc_info=True)
        logging.getLogger("library").exception(name)
"""
EMBEDDED = """
import logging
from towpath_worker.log import logger
logging.basicConfig(level="INFO", format="%(message)s")
for name in {names!r}.values():
    logger("one").info("worker joined", name=name, error=ValueError(name))
"""
PER_NAME = 5


def written(script: str) -> str:
    """What the script writes to standard error, byte for byte: newlines are not made alike."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return run.stderr.decode()


def inert(text: str) -> None:
    """Nothing in it acts on a terminal or begins a line but line feeds; each name is there to be seen."""
    hidden = {char for char in text if not char.isprintable()} - {"\n"}
    assert not hidden, sorted(map(hex, map(ord, hidden)))
    assert "alert(1)" in text
    assert r"\x1b[2J" in text
    assert r"\u202e" in text


def test_line_31_the_servers_log_for_people() -> None:
    text = written(SERVER.format(names=NAMES, as_json=False))
    inert(text)
    lines = text.rstrip("\n").split("\n")
    events = [line for line in lines if not line.startswith("  | ")]
    assert len(events) == PER_NAME * len(NAMES)
    # A trace and nothing else has lines of its own, and none of them looks like an event.
    assert all(line[:2] == "20" and "Z [" in line[:40] for line in events)
    assert sum(line.startswith("  | Traceback") for line in lines) == 2 * len(NAMES)


def test_line_31_the_servers_log_for_machines() -> None:
    text = written(SERVER.format(names=NAMES, as_json=True))
    assert text.isascii()
    told = [json.loads(line) for line in text.split("\n") if line]
    assert len(told) == PER_NAME * len(NAMES)
    assert [one["name"] for one in told if "name" in one] == list(NAMES.values())
    assert {one["level"] for one in told} == {"info", "warning", "error"}


def test_line_31_the_workers_log() -> None:
    text = written(WORKER.format(names=NAMES))
    inert(text)
    lines = text.rstrip("\n").split("\n")
    assert len(lines) == PER_NAME * len(NAMES)
    # A quote inside a value cannot end it.
    [joined] = [line for line in lines if "worker joined" in line and "user=admin" in line]
    assert r'name="box\" level=error user=admin \\"' in joined


def test_line_31_the_workers_log_in_a_program_of_somebody_elses() -> None:
    text = written(EMBEDDED.format(names=NAMES))
    inert(text)
    assert text.count("\n") == len(NAMES)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_line_31_a_cell_of_a_table(name: str) -> None:
    assert printable(name).isprintable()
    assert len(printable(f"a{name}b").splitlines()) == 1

"""Every line of the list of faults in docs/reliability.md has a test whose name says it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"^(?:async )?def test_line_(\d\d)_\w+", re.MULTILINE)
LISTED = re.compile(r"^\| (\d+) \|", re.MULTILINE)


def test_every_line_has_a_test_and_every_test_a_line() -> None:
    tested = {
        int(number)
        for path in (ROOT / "tests" / "faults").rglob("test_*.py")
        for number in NAMED.findall(path.read_text(encoding="utf-8"))
    }
    listed = {int(number) for number in LISTED.findall((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))}
    assert tested == listed == set(range(1, 32))

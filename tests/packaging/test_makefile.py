"""The targets of the Makefile do together what each of them says."""

from __future__ import annotations

import re
from pathlib import Path

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, target
    return [line.strip() for line in found[1].splitlines()]


def test_stubs_writes_all_that_generated_checks() -> None:
    checked = [line.removesuffix(" --check") for line in recipe("generated")]
    assert len(checked) == 3
    assert recipe("stubs") == checked


def test_no_recipe_starts_a_bare_interpreter() -> None:
    assert re.findall(r"^\t@?\S*/python$", MAKEFILE, re.MULTILINE) == []

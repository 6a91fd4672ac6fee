"""Each curve of the bench can be measured: at a scale that takes a moment, every key has a figure."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import pytest

from bench import programs
from bench.figures import Scale
from bench.growth import depth, memory, queued
from bench.growth.queued import Layout

TINY = Scale(quick=True, seconds=0.1, size=0.0002)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "HOME", tmp_path)
    monkeypatch.setattr(queued, "HOME", tmp_path)


@pytest.mark.parametrize("part", [depth, memory], ids=lambda part: part.__name__)
def test_every_key_has_a_figure(part: ModuleType) -> None:
    figures = part.measure(TINY)
    assert set(figures) == {measure.key for measure in part.KEYS}
    assert all(math.isfinite(value) and value > 0 for value in figures.values())


def test_a_filled_store_is_made_once_and_copied(tmp_path: Path) -> None:
    layout = Layout(50, lanes=5, tenants=1, strange=5)
    first, second = (queued.copy(layout, tmp_path / name) for name in ("a", "b"))
    assert (first / queued.STORE).read_bytes() == (second / queued.STORE).read_bytes()
    kept = tmp_path / "queued" / layout.name
    assert kept.is_dir()
    assert [layout.new(number).definition.queue for number in (0, 9, 10, 50)] == [
        "queue-0",
        "queue-0",
        "queue-1",
        "queue-0",
    ]

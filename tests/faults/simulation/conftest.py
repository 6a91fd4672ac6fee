"""What a test of a seeded bug has noticed goes with its report; tests/conftest.py shows it."""

from __future__ import annotations

import pytest

from support import seeded_bugs
from support.seeding.shown import PROPERTY


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """What a test has noticed travels with its report, also from another process."""
    if call.when == "call":
        item.user_properties += [(PROPERTY, (one.name, one.layer, one.what, one.after)) for one in seeded_bugs.caught]
        seeded_bugs.caught.clear()

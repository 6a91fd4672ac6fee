"""What takes longest begins first, so that nobody waits for it in the end; and what the seeded bugs came to."""

from __future__ import annotations

import signal

import pytest

from support.seeding import shown

# What is started in the background inherits that Ctrl-C is ignored; the programs that tests start must hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Folders of tests whose files take up to a minute each, the longest first.
SLOW = ("faults/processes/test_kill_loop", "faults/simulation", "faults/machines", "faults/processes", "end_to_end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the slow ones to the front; all others stay in order."""

    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((number for number, name in enumerate(SLOW) if f"/tests/{name}" in path), len(SLOW))

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show which seeded bugs were noticed: here, where it is seen however the tests are shared out."""
    shown.show(terminalreporter)

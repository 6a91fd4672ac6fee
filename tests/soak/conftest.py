"""One table at the end of `make soak`: see support/soak.py for how a test adds its row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import soak

FOLDER = __file__.rpartition("/")[0]
_before = 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember how many rows there were before the test."""
    global _before  # noqa: PLW0603
    _before = len(soak.rows)
    yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that fails without a row gets one."""
    if report.failed and len(soak.rows) == _before:
        name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        soak.record(name, 1, "run", 1, report.duration, f"failed in its {report.when}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the rows, at the very end."""
    if soak.rows:
        terminalreporter.ensure_newline()
        soak.show()
        terminalreporter.write_line(f"Written to {soak.results_file()}")

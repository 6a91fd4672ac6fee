"""How much of the machine other programs use while something is measured."""

from __future__ import annotations

import time

import psutil

#: Cores that may be in use elsewhere before a measurement begins.
QUIET = 0.15
SAMPLE_SECONDS = 0.3
MOST_WAITED = 2.0


class Strangers:
    """Cores in use by processes that are not descendants of this one, since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._used = _others()

    def cores(self) -> float:
        """The mean since the beginning."""
        return max(0.0, (_others() - self._used) / (time.perf_counter() - self._begun))


def wait_for_quiet() -> None:
    """Waits, not for long, until the others are quiet."""
    until = time.perf_counter() + MOST_WAITED
    while time.perf_counter() < until:
        others = Strangers()
        time.sleep(SAMPLE_SECONDS)
        if others.cores() < QUIET:
            return


def _others() -> float:
    machine = psutil.cpu_times()
    busy = machine.user + machine.system + machine.nice + getattr(machine, "irq", 0) + getattr(machine, "softirq", 0)
    return busy - _ours()


def _ours() -> float:
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total

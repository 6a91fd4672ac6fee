"""What this machine has and does: cores and memory as far as this process may use them, GPUs, load."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from towpath.v1 import worker_pb2

MIB = 1024 * 1024
CGROUP = Path("/sys/fs/cgroup")


def describe() -> worker_pb2.Machine:
    """What the machine has. May take a second where there are GPUs."""
    return worker_pb2.Machine(
        cpu_count=cores(),
        memory_mb=memory_bytes() // MIB,
        gpus=_gpus(),
        hostname=platform.node(),
        platform=f"{platform.system()} {platform.machine()}",
        python_version=platform.python_version(),
    )


def load(free_slots: int) -> worker_pb2.MachineLoad:
    """What the machine does, since the last call."""
    used = psutil.virtual_memory()
    return worker_pb2.MachineLoad(
        cpu_percent=psutil.cpu_percent(interval=None),
        memory_used_mb=min((used.total - used.available) // MIB, 2**31 - 1),
        free_slots=free_slots,
    )


@functools.cache
def cores() -> int:
    """How many cores this process may use: its affinity, within the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cores()
    return max(1, min(allowed, int(quota)) if quota else allowed)


def memory_bytes() -> int:
    """How much memory this process may use: the machine's, within the limit of its container."""
    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int((CGROUP / name).read_text()))
    return min(limits)


def version() -> str:
    """Towpath's version here."""
    try:
        return metadata.version("towpath")
    except metadata.PackageNotFoundError:
        return "0"


def _cgroup_cores() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = (CGROUP / "cpu/cpu.cfs_quota_us").read_text()
        return int(quota) / int((CGROUP / "cpu/cpu.cfs_period_us").read_text()) if int(quota) > 0 else None
    return None


def _gpus() -> list[worker_pb2.Gpu]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in text.splitlines():
        name, _, memory = line.rpartition(",")
        with contextlib.suppress(ValueError):
            gpus.append(worker_pb2.Gpu(name=name.strip(), memory_mb=int(float(memory))))
    return gpus

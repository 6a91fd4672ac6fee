"""Which worker serves which lane, and why not. ExplainJob answers with the same code that hands out jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from towpath_server.core.ids import show
from towpath_server.core.records import Gpu, Lane, Share, Worker


@dataclass(frozen=True, slots=True)
class Profile:
    """What of a worker decides which lanes it serves; workers that are alike share one."""

    tenant: str
    user: str
    job_types: frozenset[str]
    labels: frozenset[tuple[str, str]]
    cpu_count: int
    memory_mb: int
    gpus: tuple[Gpu, ...]
    models: frozenset[int]
    share: Share = Share.USER

    @property
    def serves_user(self) -> str | None:
        """Whose jobs alone it runs; None: everybody's of its tenant."""
        return None if self.share is Share.TENANT else self.user


def profile(worker: Worker, models: Iterable[int]) -> Profile:
    """The profile of a worker that holds these models."""
    return Profile(
        tenant=worker.tenant,
        user=worker.user,
        job_types=frozenset(worker.job_types),
        labels=frozenset(worker.labels.items()),
        cpu_count=worker.machine.cpu_count,
        memory_mb=worker.machine.memory_mb,
        gpus=worker.machine.gpus,
        models=frozenset(models),
        share=worker.share,
    )


def serves(lane: Lane, worker: Profile, worker_id: int) -> bool:
    """Whether the worker may run the lane's jobs."""
    return not misfits(lane, worker, worker_id)


def misfits(lane: Lane, worker: Profile, worker_id: int) -> tuple[str, ...]:
    """What stands against the worker running the lane's jobs, in words; empty where nothing does."""
    needs, reasons = lane.requirements, []
    if lane.tenant != worker.tenant or worker.serves_user not in (None, lane.user):
        reasons.append(f"serves {worker.user}, not {lane.user}; it is not shared")
    if lane.job_type not in worker.job_types:
        reasons.append(f"cannot run {lane.job_type}")
    if needs.worker_id is not None and needs.worker_id != worker_id:
        reasons.append(f"the job is for {show('wkr', needs.worker_id)} alone")
    if needs.model_id is not None and needs.model_id not in worker.models:
        reasons.append(f"does not hold {show('mdl', needs.model_id)}")
    if needs.cpu_count > worker.cpu_count:
        reasons.append(f"has {worker.cpu_count} cores of {needs.cpu_count}")
    if needs.memory_mb > worker.memory_mb:
        reasons.append(f"has {worker.memory_mb} MiB of memory of {needs.memory_mb}")
    fitting_gpus = sum(gpu.memory_mb >= needs.gpu_memory_mb for gpu in worker.gpus)
    if needs.gpu_count > fitting_gpus or (needs.gpu_memory_mb and not fitting_gpus):
        of_size = f" of {needs.gpu_memory_mb} MiB" if needs.gpu_memory_mb else ""
        reasons.append(f"has {fitting_gpus} GPUs{of_size} of {max(needs.gpu_count, 1)}")
    reasons += [f"lacks label {key}={value}" for key, value in needs.worker_labels if (key, value) not in worker.labels]
    return tuple(reasons)

"""A whole worker as one coroutine: for the command, for programs that embed it, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from towpath import AsyncClient
from towpath._async.failover import AsyncDial
from towpath.bearer import Secret
from towpath_worker import credential, machine, registry
from towpath_worker.executor import Executor
from towpath_worker.job_log import JobLog
from towpath_worker.outbox import Outbox
from towpath_worker.plan import Plan
from towpath_worker.process import StartFailed
from towpath_worker.renewal import Renewal
from towpath_worker.settings import WorkerSettings
from towpath_worker.spool import Spool
from towpath_worker.state import StateFolder
from towpath_worker.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker is, once the scheduler has taken it."""

    worker_id: str
    job_types: tuple[str, ...]
    slots: int


async def run_worker(
    settings: WorkerSettings,
    *,
    stop: asyncio.Event,
    release: asyncio.Event | None = None,
    on_ready: Callable[[Ready], None] = lambda ready: None,
) -> int:
    """Runs a worker until `stop` is set and its jobs are finished, or `release` is set and they are given back.

    Installs no signal handlers: runs in any event loop, of any thread. Gives 0. Raises Refused where the scheduler
    does not take this worker, StateFolderTaken, StartFailed where its handlers cannot be loaded, ValueError for an
    address or a certificate that cannot be used.
    """
    state = StateFolder(settings.state_dir)
    plan = Plan(
        modules=settings.handlers,
        allow=settings.allow,
        folders=settings.folders(state),
        work=state.work,
        threads=max(1, machine.cores() // settings.slots),
        mark=state.mark,
        limits=settings.limits(),
    )
    token = Secret(settings.token.get_secret_value()) if settings.token else None
    executor = Executor(plan, slots=settings.slots, max_tasks_per_child=settings.max_tasks_per_child)
    outbox = Outbox(Spool(state.spool))
    job_log = JobLog(state.job_log)
    try:
        served = await executor.start()
        if served.inline:
            _load_here(plan)
        slots = settings.inline_slots if served.all_inline else settings.slots
        supervisor = Supervisor(
            settings.model_copy(update={"slots": slots}),
            state,
            executor,
            outbox,
            served,
            plan,
            job_log,
            connect=AsyncDial(
                settings.server,
                token,
                insecure=settings.insecure,
                tls_ca=settings.tls_ca,
                tls_cert=settings.tls_cert,
                tls_key=settings.tls_key,
            ).open,
            on_ready=lambda worker_id: on_ready(Ready(worker_id, served.types, slots)),
        )
        async with (
            _renewing(settings, token),
            _when(stop, supervisor.drain),
            _when(release, supervisor.release),
        ):
            await supervisor.run()
    finally:
        await executor.close()
        job_log.close()
        outbox.close()
        state.close()
    return 0


def _load_here(plan: Plan) -> None:
    # As in a child process, which finds modules in the folder that the worker was started in.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        registry.load(plan.modules, plan.allow)
    except registry.Unservable as error:
        raise StartFailed(str(error)) from None


@contextlib.asynccontextmanager
async def _renewing(settings: WorkerSettings, token: Secret | None) -> AsyncIterator[None]:
    """Keeps the credential alive that this worker got when it joined, if that is its token."""
    kept = None
    # Where the token came from elsewhere, what is wrong with it does not matter.
    with contextlib.suppress(credential.CredentialUnusable):
        kept = credential.find(settings.state_dir)
    if token is None or kept is None or token.token != kept.secret:
        yield
        return

    def connect(secret: str) -> AsyncClient:
        return AsyncClient(
            settings.server,
            secret,
            insecure=settings.insecure,
            tls_ca=settings.tls_ca,
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
        )

    renewing = asyncio.create_task(Renewal(settings.state_dir, kept, token, connect).run())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


@contextlib.asynccontextmanager
async def _when(event: asyncio.Event | None, act: Callable[[], None]) -> AsyncIterator[None]:
    async def wait() -> None:
        if event is not None:
            await event.wait()
            act()

    waiting = asyncio.create_task(wait())
    try:
        yield
    finally:
        waiting.cancel()

"""Which function runs which job type: the built-in ones, and those of the modules that the worker's owner named."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from towpath.v1 import job_pb2
from towpath_worker import binding, results
from towpath_worker.errors import InvalidInput
from towpath_worker.handler import BUILT_IN_TYPES, Context, inlined, registered

BUILT_IN_PACKAGE = "towpath_worker.handlers"
# What a built-in job type cannot do without.
NEEDS = {"train": ("pandas", "sklearn"), "predict": ("pandas", "sklearn"), "list_models": ()}

OnCancel = Callable[[Callable[[], object]], None]


class Unservable(Exception):
    """The handlers that the worker was told to serve cannot be had. The message says what to do."""


def load(modules: Iterable[str], allow: Iterable[str]) -> list[str]:
    """Imports the modules; the job types served, sorted: all, or those of `allow`. Unservable if that fails."""
    for module in modules:
        known, before = module in sys.modules, len(registered)
        _import(module)
        if not known and len(registered) == before:
            raise Unservable(f'Module {module!r} makes no function a job type: write `@handler("my.type")` above one.')
    available = {name for name in BUILT_IN_TYPES if _has(BUILT_IN_PACKAGE, *NEEDS[name])} | set(registered)
    allowed = set(allow)
    if unknown := sorted(allowed - available):
        raise Unservable(
            f"No handler for {', '.join(unknown)} here. There are: {', '.join(sorted(available)) or 'none'}."
        )
    served = allowed or available
    if not served:
        raise Unservable("No job types to serve. Install `towpath[worker]`, or name a module of yours with --handlers.")
    return sorted(served)


def inline(served: Iterable[str]) -> list[str]:
    """Those of the loaded job types that run in the worker's own process."""
    return sorted(inlined.intersection(served))


def preload(served: Iterable[str]) -> None:
    """Imports the libraries of the built-in job types that are served, so that no job waits for them."""
    if any(NEEDS.get(name) for name in served):
        importlib.import_module(BUILT_IN_PACKAGE).preload()


def run(job: job_pb2.Job, ctx: Context, on_cancel: OnCancel) -> job_pb2.JobResult:
    """Runs a job to its result. Raises what its handler raises."""
    which = job.WhichOneof("spec")
    if which is None:
        raise InvalidInput("The job has no spec that this worker knows. Update the worker.")
    if which != "custom":
        function = _built_in(which)
        return job_pb2.JobResult(**{which: function(ctx, getattr(job, which))})
    returned = call(job.custom, ctx)
    if inspect.isawaitable(returned):
        returned = asyncio.run(_cancellable(returned, ctx, on_cancel))
    return job_pb2.JobResult(custom=job_pb2.CustomResult(value=results.to_value(returned)))


def call(spec: job_pb2.CustomSpec, ctx: Context) -> Any:
    """Calls a custom job's handler; what it gives, perhaps to be awaited. Raises what the handler raises."""
    function = registered.get(spec.type)
    if function is None:
        raise InvalidInput(f"This worker has no handler for {spec.type!r}.")
    return function(ctx, **binding.bind(function, spec.params))


async def _cancellable(work: Awaitable[Any], ctx: Context, on_cancel: OnCancel) -> Any:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    on_cancel(lambda: loop.call_soon_threadsafe(task.cancel))
    if ctx.cancelled:
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        ctx.raise_if_cancelled()
        raise


def _built_in(name: str) -> Callable[[Context, Any], Any]:
    function: Callable[[Context, Any], Any] = importlib.import_module(BUILT_IN_PACKAGE).BUILTIN[name]
    return function


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise Unservable(
                f"There is no module {module!r} to take handlers from. Start the worker in the folder that holds it, "
                "or install it; name it as in `import`, without `.py`."
            ) from None
        raise Unservable(f"Module {module!r} needs {error.name!r}, which is not installed: pip install it.") from None
    except Exception as error:
        raise Unservable(f"Module {module!r} cannot be imported: {type(error).__name__}: {error}") from error


def _has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)

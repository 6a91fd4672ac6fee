"""The built-in job types. Importing this imports nothing heavy; `preload` does, in processes that wait for jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from towpath_worker.handler import Context


@dataclass(frozen=True)
class BuiltIn:
    """A built-in handler, imported when it is first called. It takes its typed spec and returns its typed result."""

    name: str

    def __call__(self, ctx: Context, spec: Message) -> Message:
        """Runs it."""
        _let_threads_sleep()
        module: Any = import_module(f"{__name__}.{self.name}")
        result: Message = getattr(module, self.name)(ctx, spec)
        return result


#: Job type -> handler.
BUILTIN: dict[str, BuiltIn] = {name: BuiltIn(name) for name in ("train", "predict", "list_models")}


def preload() -> None:
    """Imports what the built-in handlers need (about two seconds), so that their jobs need not wait for it."""
    _let_threads_sleep()
    for name in BUILTIN:
        import_module(f"{__name__}.{name}")
    for library in ("pyarrow.parquet", "pandas", "sklearn", "skops.io", "xgboost"):
        import_module(library)


def _let_threads_sleep() -> None:
    """OpenMP's threads spin while they wait for each other; read when its library is loaded.

    On two cores shared with others a training of 8 s took 41 to 74 s with spinning threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

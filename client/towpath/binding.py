"""From a call of a handler, as `f(1, width=2)`, to a job type and its params."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from towpath.errors import InvalidArgument

# Where the worker's `@handler` leaves the job type.
ATTRIBUTE = "__towpath_job_type__"


def bind(
    fn: Callable[..., Any] | str | None, default: str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The job type and the params by name; a function's first parameter is the context, which the worker gives."""
    job_type = fn if isinstance(fn, str) else getattr(fn, ATTRIBUTE, default)
    if job_type is None:
        raise InvalidArgument(
            f"{getattr(fn, '__name__', fn)!r} is no job type. Decorate it with @handler, or name a job type that a "
            "worker serves: the function itself never travels."
        )
    if callable(fn) and not isinstance(fn, str):
        return job_type, _by_name(fn, args, kwargs)
    if len(args) == 1 and isinstance(args[0], Mapping):
        return job_type, {**args[0], **kwargs}
    if args:
        raise InvalidArgument(f"Give the params of {job_type} by name: only a function's signature can name them.")
    return job_type, dict(kwargs)


def _by_name(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise InvalidArgument(f"{fn.__name__} must take the context as its first parameter.")
    try:
        bound = signature.replace(parameters=parameters[1:]).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgument(f"{fn.__name__}: {error}.") from None
    params: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            raise InvalidArgument(f"{fn.__name__}: give its params by name; *{name} has none.")
        params.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    return params

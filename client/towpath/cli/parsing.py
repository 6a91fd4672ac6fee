"""Values as people type them: `name=value`, JSON, durations."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

_SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)


def pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """`["a=1", "b=x"]` as `{"a": "1", "b": "x"}`; a name may come once."""
    found: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        name = name.strip()
        if not separator or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice.", param_hint=option)
        found[name] = value
    return found


def params(given: Iterable[str], option: str) -> dict[str, Any]:
    """As `pairs`, each value read as JSON; what is no JSON is taken as text."""
    return {name: value(text, option) for name, text in pairs(given, option).items()}


def value(text: str, option: str) -> Any:
    """`8`, `0.1`, `true`, `null`, `[1, 2]`, `{"a": 1}` and `"8"` as JSON has them; anything else is text."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # A broken list or object is a slip of the hand, never meant as text.
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise typer.BadParameter(f"{text!r} is not valid JSON.", param_hint=option) from None
        return text


def json_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object: the text itself, `@FILE`, or `-` for standard input."""
    if text == "-":
        source, text = "standard input", sys.stdin.read()
    elif text.startswith("@"):
        source, text = text[1:], Path(text[1:]).expanduser().read_text(encoding="utf-8")
    else:
        source = "it"
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{source} is not valid JSON: {error}.", param_hint=option) from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f'{source} is not a JSON object such as {{"a": 1}}.', param_hint=option)
    return found


def seconds(text: str, option: str) -> float:
    """`90`, `90s`, `1.5h`, `200ms`, `7d` in seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not math.isfinite(found := float(match[1]) * _SECONDS[match[2] or "s"]):
        raise typer.BadParameter(f"{text!r} is not a duration such as 90, 30s, 10m, 2h or 7d.", param_hint=option)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

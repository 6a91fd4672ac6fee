"""What the demo tells when it is through."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towpath.cli import output, results, times

if TYPE_CHECKING:
    from towpath.fleet import Model
    from towpath.results import TrainResult


@dataclass(frozen=True, slots=True)
class Report:
    """All that a demo found out."""

    address: str
    token_file: Path
    trained: TrainResult
    predictions: Sequence[dict[str, Any]]
    models: Sequence[Model]
    steps: Sequence[tuple[str, float]]

    def show(self) -> None:
        """Tables for people, and lines to paste."""
        _head("What it learned")
        results.train(self.trained)
        _head(f"{len(self.predictions)} flights whose answer was left out of the table: will they arrive late?")
        results.rows_table(self.predictions)
        right = sum(one["late?"] == one["in truth"] for one in self.predictions)
        output.line(f"{right} of {len(self.predictions)} right.")
        _head("Models on the worker")
        results.models(self.models)
        _head("How long each step took")
        took = [(step, times.span(seconds)) for step, seconds in self.steps]
        output.table(
            ("step", "time"), [*took, ("all", times.span(sum(seconds for _, seconds in self.steps)))], right=("time",)
        )
        _head("While both run, paste one of these into another terminal")
        for line in self.commands():
            output.line(line)
        output.line()

    def document(self) -> None:
        """The same for machines."""
        output.document(
            {
                "address": self.address,
                "token_file": str(self.token_file),
                "train": self.trained.to_dict(),
                "predictions": list(self.predictions),
                "models": [model.to_dict() for model in self.models],
                "seconds": dict(self.steps),
            }
        )

    def commands(self) -> list[str]:
        """Lines to paste. The token is read from its file, so that no secret is printed."""
        token_file = shlex.quote(str(self.token_file))
        bearer = f'"authorization: Bearer $(cat {token_file})"'
        return [
            f"{_program('grpcurl')} -plaintext -H {bearer} {self.address} towpath.v1.JobService/ListJobs",
            f"{_program('towpath')} --server {self.address} --token-file {token_file} jobs list",
        ]


def _head(text: str) -> None:
    output.line()
    if output.on_terminal():
        output.console().print(text, style="bold")
    else:
        output.line(text)


def _program(name: str) -> str:
    """How to call a program: by its name where the shell finds it, else by its path beside this Python."""
    if shutil.which(name):
        return name
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    return shlex.quote(beside) if beside else name

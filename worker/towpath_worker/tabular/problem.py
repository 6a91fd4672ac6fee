"""What is to be learned: the target, the features, the task; and what is wrong with the wish, all of it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from towpath_worker.tabular.checks import listed, one_of, refuse
from towpath_worker.tabular.columns import Kind, WrongValues, kind_of, numbers, texts
from towpath_worker.tabular.model_types import Task

MIN_ROWS = 10
MAX_CLASSES = 1_000
FEW_VALUES = 20

Codes = np.ndarray[Any, np.dtype[np.int64]]
Values = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Labels:
    """The classes of a target, in the order of their probabilities, with the type that they have in the table."""

    kind: Kind
    classes: tuple[str | int | float | bool, ...]

    @property
    def names(self) -> list[str]:
        """The classes as text."""
        return [str(label) for label in self.classes]

    def decode(self, codes: Codes) -> pd.Series:
        """Labels from the positions of their classes."""
        labels: pd.Series = pd.Series(np.array(self.classes, dtype=object)[codes], dtype=_DTYPES[self.kind])
        return labels


_DTYPES: dict[Kind, Any] = {Kind.STRING: "str", Kind.LONG: "int64", Kind.DOUBLE: "float64", Kind.BOOLEAN: "bool"}


@dataclass(frozen=True)
class Problem:
    """Features and target, rows without a target left out."""

    task: Task
    frame: pd.DataFrame
    kinds: Mapping[str, Kind]
    #: Positions of classes (int64), or numbers (float64).
    target: Values
    #: None for regression.
    labels: Labels | None
    notes: tuple[str, ...]

    @property
    def class_count(self) -> int:
        """How many classes; 0 for regression."""
        return len(self.labels.classes) if self.labels else 0


def task_of(target: pd.Series) -> Task:
    """Classification for text, true or false, and few distinct whole numbers; else regression."""
    kind = kind_of(target)
    if kind is None or not kind.is_number:
        return "classification"
    values = numbers(target, Kind.DOUBLE)
    distinct = np.unique(values[~np.isnan(values)])
    few = len(distinct) <= max(2, min(FEW_VALUES, len(values) // 5))
    whole = bool((distinct == np.round(distinct)).all())
    return "classification" if kind is Kind.BOOLEAN or (few and whole) else "regression"


def wrong_columns(columns: Sequence[str], target: str, features: Sequence[str]) -> list[str]:
    """What is wrong with the names asked for."""
    problems = []
    if target not in columns:
        problems.append(f"the table has no target column {target!r}; {one_of(target, columns)}")
    others = [name for name in columns if name != target]
    problems += [
        f"the table has no feature column {name!r}; {one_of(name, others)}"
        for name in features
        if name not in columns and name != target
    ]
    if target in features:
        problems.append(f"the target {target!r} is also among the features: take it out of them")
    if not features and target in columns and not others:
        problems.append("the table has only the target: there is nothing to learn from")
    return problems


def define(frame: pd.DataFrame, target: str, features: Sequence[str], task: Task) -> Problem:
    """The problem, ready to be split and encoded. Names must have been checked. Raises InvalidInput."""
    notes: list[str] = []
    codes, labels, problems = _classes(frame[target]) if task == "classification" else _numbers(frame[target])
    known = codes >= 0 if labels else ~np.isnan(codes)
    if len(frame) - int(known.sum()):
        notes.append(f"{len(frame) - int(known.sum()):,} rows without a target were left out")
    if not problems and known.sum() < MIN_ROWS:
        problems.append(f"there are {int(known.sum())} rows with a target: at least {MIN_ROWS} are needed")
    # Where every row has a target, nothing is copied.
    rows = frame if known.all() else frame.loc[known].reset_index(drop=True)
    kinds, ignored = _features(rows, [name for name in (features or frame.columns) if name != target])
    notes += ignored
    if not problems and not kinds:
        problems.append(f"no feature is left to learn from ({'; '.join(ignored)})")
    refuse(problems)
    return Problem(task, rows[list(kinds)], kinds, codes[known], labels, tuple(notes))


def _classes(target: pd.Series) -> tuple[Values, Labels | None, list[str]]:
    kind = kind_of(target)
    if kind is None:
        return (
            np.full(len(target), -1),
            None,
            [f"the target {target.name!r} holds lists or objects: give text or numbers"],
        )
    if kind.is_number:
        values = numbers(target, Kind.DOUBLE)
        distinct = np.unique(values[~np.isnan(values)])
        if kind is Kind.DOUBLE and (distinct == np.round(distinct)).all() and (np.abs(distinct) < 2**53).all():
            kind = Kind.LONG  # whole numbers that became floats because some are missing
        codes = np.where(np.isnan(values), -1, np.searchsorted(distinct, values)).astype("int64")
        convert = {Kind.LONG: int, Kind.BOOLEAN: bool}.get(kind, float)
        classes: list[Any] = [convert(value) for value in distinct]
    else:
        kind = Kind.STRING
        text = target.astype(str).where(target.notna(), None) if target.dtype.kind == "M" else texts(target)
        positions, levels = pd.factorize(text)
        classes = sorted(map(str, levels))
        order = {label: position for position, label in enumerate(classes)}
        codes = np.array([*(order[str(level)] for level in levels), -1], dtype="int64")[positions]
    return codes, Labels(kind, tuple(classes)), _wrong_classes(str(target.name), classes, int((codes >= 0).sum()))


def _wrong_classes(target: str, classes: Sequence[Any], rows: int) -> list[str]:
    if len(classes) == 0:
        return [f"the target {target!r} has no values"]
    if len(classes) == 1:
        return [f"the target {target!r} has one class only ({classes[0]!r}): at least two are needed"]
    if len(classes) > MAX_CLASSES or (len(classes) > FEW_VALUES and len(classes) > rows / 2):
        what = "set task_type to REGRESSION" if not isinstance(classes[0], str) else "choose another target"
        return [
            f"the target {target!r} has {len(classes):,} distinct values in {rows:,} rows, too many classes: {what}"
        ]
    return []


def _numbers(target: pd.Series) -> tuple[Values, Labels | None, list[str]]:
    kind = kind_of(target)
    try:
        if kind is None or kind is Kind.DATETIME:
            raise WrongValues("dates, lists or objects")
        values = numbers(target, Kind.DOUBLE)
    except WrongValues as wrong:
        text = f"the target {target.name!r} must be numbers for regression, but has other values ({wrong})"
        return (
            np.full(len(target), np.nan),
            None,
            [f"{text}: set task_type to CLASSIFICATION, or choose another target"],
        )
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return values, None, [f"the target {target.name!r} has no values"]
    if known.min() == known.max():
        return values, None, [f"the target {target.name!r} is {known[0]:g} in every row: there is nothing to learn"]
    return values, None, []


def _features(frame: pd.DataFrame, names: Sequence[str]) -> tuple[dict[str, Kind], list[str]]:
    kinds: dict[str, Kind] = {}
    ignored: dict[str, list[str]] = {}
    for name in names:
        column = frame[name]
        kind = kind_of(column)
        if kind is None:
            ignored.setdefault("columns of lists, objects or bytes", []).append(name)
            continue
        present = column.dropna()
        if len(present) == 0:
            ignored.setdefault("columns without values", []).append(name)
            continue
        # Almost all columns vary in their first rows, and then need not be counted.
        varied = present.head(100).nunique() > 1 or present.nunique() > 1
        if not varied and len(present) == len(column):
            ignored.setdefault("columns with one value only", []).append(name)
        elif kind is Kind.STRING and _is_identifier(present):
            ignored.setdefault("text columns with almost as many values as rows", []).append(name)
        else:
            kinds[name] = kind
    return kinds, [f"ignored {why}: {listed(columns)}" for why, columns in ignored.items()]


def _is_identifier(present: pd.Series) -> bool:
    distinct = present.nunique()
    return distinct > 50 and distinct > len(present) / 2

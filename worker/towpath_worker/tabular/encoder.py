"""From columns to the matrix that an estimator reads, and back from the matrix's columns to the table's.

Learned once on the training rows, stored as JSON beside the model, applied in the same way when predicting.

Two styles. `tree`: one column each, text as codes (most frequent first), missing values stay NaN.
`dense`: numbers centred and scaled with missing ones at the mean and a flag, text one-hot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from towpath_worker.tabular.columns import Kind, moments, numbers, texts

Style = Literal["tree", "dense"]
Matrix = np.ndarray[Any, np.dtype[Any]]

TREE_LEVELS = 254  # HistGradientBoosting takes 255 categories; one is for all others
DENSE_LEVELS = 100
DENSE_WIDTH = 4_000
_PARTS = ("year", "month", "day", "day_of_week", "day_of_year", "hour", "minute")
#: Larger numbers are taken as this: sums and squares of them must not overflow.
_LARGEST = 1e30


@dataclass(frozen=True)
class ColumnCode:
    """How one column is encoded."""

    name: str
    kind: Kind
    #: Text: the levels with a code of their own, most frequent first.
    levels: tuple[str, ...] = ()
    #: Text: whether all other levels share one more code.
    others: bool = False
    #: Dates: the parts that vary.
    parts: tuple[str, ...] = ()
    #: Dense: whether missing values are flagged.
    missing: bool = False
    #: Dense numbers: mean and scale of each number.
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    def width(self, style: Style) -> int:
        """How many matrix columns it takes."""
        if self.kind is not Kind.STRING:
            return len(self.parts if self.kind is Kind.DATETIME else (self.name,)) + int(self.missing)
        return len(self.levels) + self.others + self.missing if style == "dense" else 1


@dataclass(frozen=True)
class Encoder:
    """The encoding of a table's features."""

    style: Style
    columns: tuple[ColumnCode, ...]

    @property
    def sources(self) -> list[int]:
        """For each matrix column the index of the table's column that it comes from."""
        return [index for index, column in enumerate(self.columns) for _ in range(column.width(self.style))]

    @property
    def categorical(self) -> list[bool]:
        """For each matrix column whether it holds codes without order."""
        return [self.style == "tree" and self.columns[index].kind is Kind.STRING for index in self.sources]

    def transform(self, frame: pd.DataFrame, *, double: bool = False) -> Matrix:
        """float32 (or float64) of shape (rows, columns). Raises columns.WrongValues for a column of another kind."""
        matrix = np.empty((len(frame), len(self.sources)), dtype="float64" if double else "float32")
        start = 0
        for column in self.columns:
            end = start + column.width(self.style)
            _fill(matrix[:, start:end], column, frame[column.name], self.style)
            start = end
        return matrix

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"style": self.style, "columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Encoder:
        """The stored encoder."""
        columns = [ColumnCode(**_tuples(column) | {"kind": Kind(column["kind"])}) for column in stored["columns"]]
        return cls(stored["style"], tuple(columns))


def _tuples(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}


def learn(frame: pd.DataFrame, kinds: Mapping[str, Kind], style: Style) -> Encoder:
    """The encoder for the columns named in `kinds`, learned from `frame` (training rows only)."""
    text_count = sum(kind is Kind.STRING for kind in kinds.values())
    levels = TREE_LEVELS if style == "tree" else min(DENSE_LEVELS, max(2, DENSE_WIDTH // max(1, text_count)))
    return Encoder(style, tuple(_learn(frame[name], name, kind, style, levels) for name, kind in kinds.items()))


def _learn(column: pd.Series, name: str, kind: Kind, style: Style, max_levels: int) -> ColumnCode:
    missing = style == "dense" and bool(column.isna().any())
    if kind is Kind.STRING:
        counts = texts(column).value_counts()
        # Equal counts are ordered by name: the same rows give the same codes.
        ordered = sorted(zip(counts.index.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        levels = tuple(str(level) for level, count in ordered if count)
        return ColumnCode(name, kind, levels[:max_levels], len(levels) > max_levels, missing=missing)
    parts: tuple[str, ...] = ()
    if kind is Kind.DATETIME:
        moment = moments(column)
        parts = tuple(part for part in _PARTS if getattr(moment.dt, part).nunique() > 1) or ("year",)
        values = _parts(moment, parts)
    else:
        values = [_within(numbers(column, kind))]
        missing = style == "dense" and bool(np.isnan(values[0]).any())
    if style == "tree":
        return ColumnCode(name, kind, parts=parts)
    means = tuple(float(np.nanmean(value)) if not np.isnan(value).all() else 0.0 for value in values)
    scales = tuple(float(np.nanstd(value)) if not np.isnan(value).all() else 1.0 for value in values)
    scales = tuple(scale if np.isfinite(scale) and scale > 0 else 1.0 for scale in scales)
    return ColumnCode(name, kind, parts=parts, missing=missing, means=means, scales=scales)


def _parts(moment: pd.Series, parts: Sequence[str]) -> list[Matrix]:
    return [getattr(moment.dt, part).to_numpy(dtype="float64", na_value=np.nan) for part in parts]


def _within(values: Matrix) -> Matrix:
    return np.clip(values, -_LARGEST, _LARGEST)


def _fill(out: Matrix, code: ColumnCode, column: pd.Series, style: Style) -> None:
    if code.kind is Kind.STRING:
        codes = _codes(code, column)
        if style == "tree":
            out[:, 0] = np.where(codes < 0, np.nan, codes)
            return
        out[:] = 0
        positions = np.where(codes < 0, len(code.levels) + code.others, codes) if code.missing else codes
        rows = np.flatnonzero((positions >= 0) & (positions < out.shape[1]))
        out[rows, positions[rows]] = 1
        return
    values = (
        _parts(moments(column), code.parts) if code.kind is Kind.DATETIME else [_within(numbers(column, code.kind))]
    )
    if style == "tree":
        for index, value in enumerate(values):
            out[:, index] = value
        return
    for index, value in enumerate(values):
        scaled = (value - code.means[index]) / code.scales[index]
        out[:, index] = np.clip(np.nan_to_num(scaled, nan=0.0), -1e6, 1e6)
    if code.missing:
        out[:, -1] = np.isnan(values[0])


def _codes(code: ColumnCode, column: pd.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The level's number for each value; -1 where it is missing, and for a new level where there is no code for it."""
    text = texts(column)
    occurring, levels = pd.factorize(text)
    numbered = {level: number for number, level in enumerate(code.levels)}
    unknown = len(code.levels) if code.others else -1
    lookup = np.array([*(numbered.get(str(level), unknown) for level in levels), -1], dtype="int64")
    return lookup[occurring]

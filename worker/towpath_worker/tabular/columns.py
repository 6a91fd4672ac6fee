"""What kind of values a column holds, and those values in the one form that the encoder reads."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

_ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?( ?(Z|[+-]\d{2}:?\d{2}))?",
)
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_SAMPLE = 500


class Kind(StrEnum):
    """Column types as an MLflow signature names them."""

    DOUBLE = "double"
    LONG = "long"
    BOOLEAN = "boolean"
    STRING = "string"
    DATETIME = "datetime"

    @property
    def is_number(self) -> bool:
        """Whether its values are taken as they are."""
        return self in (Kind.DOUBLE, Kind.LONG, Kind.BOOLEAN)


IN_WORDS = {
    Kind.DOUBLE: "numbers",
    Kind.LONG: "numbers",
    Kind.BOOLEAN: "true or false",
    Kind.STRING: "text",
    Kind.DATETIME: "dates as 2013-01-31 or 2013-01-31 17:05",
}


class WrongValues(Exception):
    """Values that are not of the wanted kind."""


def kind_of(column: pd.Series) -> Kind | None:
    """The kind of a column's values; None for what cannot be learned from: lists, objects, bytes."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Kind.STRING
    if isinstance(dtype, pd.DatetimeTZDtype) or dtype.kind == "M":
        return Kind.DATETIME
    if dtype.kind == "b":
        return Kind.BOOLEAN
    if dtype.kind in "iu":
        return Kind.LONG
    if dtype.kind in "fm":
        return Kind.DOUBLE
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred in ("string", "mixed-integer", "mixed"):
        return _kind_of_text(column)
    return {
        "boolean": Kind.BOOLEAN,
        "integer": Kind.LONG,
        "floating": Kind.DOUBLE,
        "mixed-integer-float": Kind.DOUBLE,
        "decimal": Kind.DOUBLE,
        "date": Kind.DATETIME,
        "datetime": Kind.DATETIME,
        "datetime64": Kind.DATETIME,
        "empty": Kind.DOUBLE,
    }.get(inferred)


def _kind_of_text(column: pd.Series) -> Kind | None:
    given = column.dropna()
    if not all(isinstance(value, (str, int, float, bool)) for value in given.head(_SAMPLE)):
        return None
    looks_like_dates = all(isinstance(value, str) and _ISO.fullmatch(value) for value in given.head(_SAMPLE))
    if looks_like_dates and not _moments(given).isna().any():
        return Kind.DATETIME
    return Kind.STRING


def numbers(column: pd.Series, kind: Kind) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A number or truth column as float64, missing and infinite values as NaN. Raises WrongValues."""
    if column.dtype.kind == "m":
        seconds: np.ndarray[Any, np.dtype[np.float64]] = column.dt.total_seconds().to_numpy(dtype="float64")
        return seconds
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    is_number = column.dtype.kind in "biuf"
    values = column.to_numpy(dtype="float64", na_value=np.nan) if is_number else _parsed(column, kind)
    if kind is Kind.BOOLEAN and not np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
        raise WrongValues(f"e.g. {values[~np.isnan(values) & ~np.isin(values, (0.0, 1.0))][0]:g}")
    return np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values


def _parsed(column: pd.Series, kind: Kind) -> np.ndarray[Any, np.dtype[np.float64]]:
    if kind is Kind.BOOLEAN:
        parsed = column.map(lambda value: _TRUTH.get(str(value).strip().lower()), na_action="ignore")
        parsed = pd.to_numeric(parsed, errors="coerce")
    else:
        parsed = pd.to_numeric(column, errors="coerce")
    wrong = parsed.isna() & column.notna()
    if wrong.any():
        raise WrongValues(f"e.g. {_shown(column[wrong].iloc[0])}")
    return np.asarray(parsed.to_numpy(dtype="float64", na_value=np.nan))


def texts(column: pd.Series) -> pd.Series:
    """A text column as strings, missing values as None or NaN. Raises WrongValues where it holds numbers or dates."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.rename_categories([str(level) for level in column.cat.categories])
    if column.dtype.kind in "biufMm" and column.notna().any():
        raise WrongValues(f"e.g. {_shown(column.dropna().iloc[0])}")
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        return column
    return column.astype(object).map(str, na_action="ignore")


def moments(column: pd.Series) -> pd.Series:
    """A date column as datetime64 in UTC, missing values as NaT. Raises WrongValues."""
    if column.dtype.kind in "biuf" and column.notna().any():
        raise WrongValues(f"e.g. {_shown(column.dropna().iloc[0])}")
    parsed = _moments(column)
    wrong = parsed.isna() & column.notna()
    if wrong.any():
        raise WrongValues(f"e.g. {_shown(column[wrong].iloc[0])}")
    return parsed


def _moments(column: pd.Series) -> pd.Series:
    if column.dtype.kind in "biuf":
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[ns, UTC]")
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        return pd.to_datetime(column, utc=True)
    codes, levels = pd.factorize(column)  # the same moment stands in many rows
    parsed = pd.to_datetime(pd.Series(levels, dtype=object), utc=True, errors="coerce", format="ISO8601")
    in_rows: pd.Series = parsed.reindex(codes).set_axis(column.index)
    return in_rows


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."

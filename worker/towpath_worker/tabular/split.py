"""Which rows are kept for the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

Rows = np.ndarray[Any, np.dtype[np.int64]]


def split(target: np.ndarray[Any, Any], class_count: int, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Train and test rows, in order, the same for the same seed.

    With classes each is split in the same proportion (largest remainders), and at least one row of each is trained on.
    """
    random = np.random.default_rng(seed)
    groups = (
        [np.flatnonzero(target == code) for code in range(class_count)] if class_count else [np.arange(len(target))]
    )
    wanted = min(max(1, round(len(target) * test_size)), len(target) - max(1, class_count))
    exact = np.array([len(group) * test_size for group in groups])
    counts = np.minimum(np.floor(exact).astype(int), [max(0, len(group) - 1) for group in groups])
    for index in np.argsort(counts - exact, kind="stable"):
        if counts.sum() < wanted and counts[index] < len(groups[index]) - 1:
            counts[index] += 1
    test = [random.permutation(group)[:count] for group, count in zip(groups, counts, strict=True)]
    test_rows = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(target)), test_rows, assume_unique=True), test_rows

"""The kernel distance of two sets of features (Binkowski et al. 2018, "Demystifying MMD GANs")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LARGEST = 1000  # rows of a subset, as in the paper
FEWEST = 10  # subsets that a standard error is taken from, where there are rows for it


@dataclass(frozen=True)
class Estimate:
    """A mean over disjoint subsets.

    Args:
        value: the mean; unbiased, so it may be below 0 where the sets are alike.
        error: its standard error.
        subsets: how many.
        size: rows of each.
    """

    value: float
    error: float
    subsets: int
    size: int


def polynomial(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 of all pairs of rows of [n, d] and [m, d]: [n, m], float64."""
    kernel: np.ndarray = (one.astype(np.float64) @ other.astype(np.float64).T / one.shape[1] + 1.0) ** 3
    return kernel


def unbiased(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, equation 3).

    Mean of k over pairs of different rows in each set, minus twice its mean over pairs across.

    Args:
        one: [n, d], n at least 2.
        other: [m, d], m at least 2.
    """
    return _within(one) + _within(other) - 2.0 * float(polynomial(one, other).mean())


def _within(rows: np.ndarray) -> float:
    kernel, count = polynomial(rows, rows), len(rows)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


def distance(one: np.ndarray, other: np.ndarray, *, largest: int = LARGEST) -> Estimate:
    """The mean of `unbiased` over disjoint random subsets of both, and its standard error.

    Disjoint, because estimates from subsets that share rows are not independent, and the error would come out
    too small. The subsets are the same for the same counts.

    Args:
        one: [n, d].
        other: [m, d].
        largest: rows of a subset, at most.

    Raises:
        ValueError: there are not two subsets of two rows.
    """
    count = min(len(one), len(other))
    if count < 4:
        raise ValueError(f"{count} rows: two subsets of two are needed")
    size = max(2, min(largest, count // FEWEST))
    subsets = count // size
    parts = zip(_parts(one, subsets, size), _parts(other, subsets, size), strict=True)
    values = np.array([unbiased(a, b) for a, b in parts])
    error = float(values.std(ddof=1) / math.sqrt(subsets))
    return Estimate(float(values.mean()), error, subsets, size)


def _parts(rows: np.ndarray, subsets: int, size: int) -> np.ndarray:
    """[subsets, size, d]: rows in the order of `shuffled`."""
    chosen = shuffled(len(rows))[: subsets * size]
    parts: np.ndarray = rows[chosen].reshape(subsets, size, -1)
    return parts


def shuffled(count: int) -> np.ndarray:
    """An order of `count` rows, always the same: files are often sorted, and subsets must not be."""
    return np.argsort(np.random.Philox(key=[count, 0]).random_raw(count), kind="stable")

"""Samples against real examples: the numbers that are asked for, by name."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from lehr.measures import frechet, kernel, precision

METRICS = ("fid", "kid", "precision", "recall")


def scale(real: np.ndarray) -> float:
    """Root mean square of features [n, d] over rows and columns; 1 where all are 0."""
    return float(np.sqrt(np.mean(real.astype(np.float64) ** 2))) or 1.0


def compare(
    real: np.ndarray, drawn: np.ndarray, metrics: Collection[str], *, extractor: str
) -> dict[str, float]:
    """Numbers by name: fid_EXTRACTOR, kid_EXTRACTOR and its standard error, precision and recall.

    Features are divided by `scale(real)` first: the scale of a network's features is an accident of its
    training, and the kernel is no power of it: cubes of large numbers would hide all else.

    The extractor's name is part of the name: no other network's features give the same numbers. Precision and
    recall take equally many of both, chosen always alike.

    Args:
        real: features [n, d] of real examples.
        drawn: features [m, d] of samples.
        metrics: of METRICS.
        extractor: what made the features.

    Raises:
        ValueError: there are too few rows for what is asked.
    """
    unit, found = scale(real), dict[str, float]()
    real, drawn = real / unit, drawn / unit
    if "fid" in metrics:
        found[f"fid_{extractor}"] = frechet.distance(frechet.Moments.of(real), frechet.Moments.of(drawn))
    if "kid" in metrics:
        estimate = kernel.distance(real, drawn)
        found[f"kid_{extractor}"], found[f"kid_{extractor}_error"] = estimate.value, estimate.error
    if {"precision", "recall"} & set(metrics):
        count = min(len(real), len(drawn))
        some = (rows[kernel.shuffled(len(rows))[:count]] for rows in (real, drawn))
        both = zip(("precision", "recall"), precision.precision_and_recall(*some), strict=True)
        found |= {f"{name}_{extractor}": value for name, value in both if name in metrics}
    return found

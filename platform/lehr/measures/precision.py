"""Precision and recall of samples (Kynkäänniemi et al. 2019, "Improved precision and recall metric").

Each set's manifold is estimated as the union of balls, one about each of its rows, that reach to the row's
`neighbours`-th nearest other row. Precision is the share of samples within the real rows' manifold (are they
like real ones?), recall the share of real rows within the samples' (are all kinds there?).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

NEIGHBOURS = 3  # the paper's
BLOCK = 1024  # rows whose distances are held at once
_ROUNDING = 1e-12  # of the largest squared norm: equal rows are at a distance of about so much


def precision_and_recall(
    real: np.ndarray, drawn: np.ndarray, *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """(precision, recall) of `drawn` against `real`.

    Both depend on the counts: the paper, and whoever compares, takes equally many of each.

    Args:
        real: features [n, d].
        drawn: features [m, d].
        neighbours: which nearest neighbour the radius of a ball reaches to.

    Raises:
        ValueError: a set has no more rows than `neighbours`.
    """
    if min(len(real), len(drawn)) <= neighbours:
        raise ValueError(f"{min(len(real), len(drawn))} rows: more than {neighbours} are needed")
    centre = real.mean(axis=0, dtype=np.float64)  # norms stay small, and so does rounding
    real, drawn = real - centre, drawn - centre
    slack = _ROUNDING * max(float((real**2).sum(axis=1).max()), float((drawn**2).sum(axis=1).max()))
    return _covered(drawn, real, neighbours, slack), _covered(real, drawn, neighbours, slack)


def _covered(rows: np.ndarray, centres: np.ndarray, neighbours: int, slack: float) -> float:
    """The share of `rows` within any ball about `centres`."""
    reach = _radii(centres, neighbours) + slack
    return float(np.concatenate([(part <= reach).any(axis=1) for part in _squares(rows, centres)]).mean())


def _radii(rows: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each row to its `neighbours`-th nearest other one; the very nearest is itself."""
    nearest = [np.partition(part, neighbours, axis=1)[:, neighbours] for part in _squares(rows, rows)]
    return np.concatenate(nearest)


def _squares(rows: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances of blocks of rows to all others, [BLOCK, others] each."""
    norms = (others**2).sum(axis=1)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        yield np.maximum((part**2).sum(axis=1)[:, np.newaxis] + norms - 2.0 * part @ others.T, 0.0)

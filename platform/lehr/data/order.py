"""Which example stands where: data order as arithmetic on (seed, epoch, position), with nothing to store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Place:
    """Where one global batch lies in its epoch.

    Args:
        epoch: from 0.
        start: position of its first row in the epoch's order.
        count: rows that hold an example; fewer than the global batch at the end of an epoch.
    """

    epoch: int
    start: int
    count: int


def steps_per_epoch(examples: int, global_batch: int) -> int:
    """Batches that cover `examples` once; the last may be partial."""
    return -(-examples // global_batch)


def place(batch: int, *, examples: int, global_batch: int) -> Place:
    """The place of the 0-based batch index `batch`, counted from the start of training."""
    epoch, within = divmod(batch, steps_per_epoch(examples, global_batch))
    start = within * global_batch
    return Place(epoch, start, min(global_batch, examples - start))


def examples(order: np.ndarray, where: Place) -> np.ndarray:
    """The true examples of the global batch at `where`: int64 [count]."""
    return order[where.start : where.start + where.count]


def rows(order: np.ndarray, where: Place, *, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [first, first + count) of the global batch at `where`.

    Rows without an example have weight 0 and repeat examples from the start of the order, so that they hold
    real data and depend on nothing but their global position.

    Args:
        order: the epoch's order, int64 [examples].
        where: the batch.
        first: global position of the first row wanted.
        count: of rows wanted.

    Returns:
        Indices of examples, int64 [count], and weights, float32 [count].
    """
    positions = np.arange(first, first + count)
    weights = (positions < where.count).astype(np.float32)
    return order[(where.start + positions) % len(order)], weights

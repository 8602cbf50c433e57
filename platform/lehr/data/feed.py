"""A worker's batches, cut from the whole by arithmetic: resuming is seeking, and sharding changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count as count_from
from typing import Any

import numpy as np

from lehr import seeds
from lehr.data import order
from lehr.data.arrays import Arrays
from lehr.data.prefetch import Prefetch

Batch = dict[str, Any]

AHEAD = 4


class Feed:
    """Rows [first, first + rows) of every global batch of one split.

    A batch holds `input` float32 [rows, *shape], `target` [rows, ...], `weight` float32 [rows] (0 where
    the last batch of an epoch has no example), and the scalars `step` int64 (the 0-based batch index),
    `first` int64, `count` float32 (true examples in the global batch), `units` float32 (what these count,
    such as words) and `slots` float32 (the global batch).

    Args:
        arrays: the split, the same on every worker.
        seed: of the order.
        global_batch: rows of a batch over all workers.
        first: global position of this worker's first row.
        rows: of this worker.
    """

    def __init__(self, arrays: Arrays, *, seed: int, global_batch: int, first: int, rows: int) -> None:
        self._arrays, self._seed = arrays, seed
        self._global_batch, self._first, self._rows = global_batch, first, rows
        self._known: tuple[int | None, np.ndarray] = (None, np.empty(0, np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example's input."""
        return self._arrays.shape

    @property
    def assets(self) -> Mapping[str, bytes]:
        """Files that samples need without the data, by name."""
        return self._arrays.assets

    @property
    def examples(self) -> int:
        """In the split: what the shares of all validation batches, each times its count, are divided by."""
        return len(self._arrays)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that cover the split once."""
        return order.steps_per_epoch(self.examples, self._global_batch)

    def batch(self, index: int) -> Batch:
        """Training batch `index` (0-based), made here and now."""
        where = order.place(index, examples=self.examples, global_batch=self._global_batch)
        return self._cut(self._order(where.epoch), where, index)

    def batches(self, start: int) -> Prefetch[Batch]:
        """Batches `start`, `start` + 1, ... without end, made ahead in a thread: close it when done."""
        return Prefetch((self.batch(index) for index in count_from(start)), ahead=AHEAD)

    def validation_batches(self) -> Prefetch[Batch]:
        """The split once, in the order of its files, made ahead in a thread."""
        return Prefetch(self._in_file_order(), ahead=AHEAD)

    def _in_file_order(self) -> Iterator[Batch]:
        identity = np.arange(self.examples)
        for index in range(self.steps_per_epoch):
            where = order.place(index, examples=self.examples, global_batch=self._global_batch)
            yield self._cut(identity, where, index)

    def _order(self, epoch: int) -> np.ndarray:
        known, permutation = self._known
        if known != epoch:
            permutation = seeds.permutation(self._seed, epoch, self.examples)
            self._known = (epoch, permutation)
        return permutation

    def _cut(self, permutation: np.ndarray, where: order.Place, index: int) -> Batch:
        picked, weight = order.rows(permutation, where, first=self._first, count=self._rows)
        given, target = self._arrays.take(picked)
        return {
            "input": given,
            "target": target,
            "weight": weight,
            "step": np.int64(index),
            "first": np.int64(self._first),
            "count": np.float32(where.count),
            "units": np.float32(self._arrays.counted(order.examples(permutation, where))),
            "slots": np.float32(self._global_batch),
        }

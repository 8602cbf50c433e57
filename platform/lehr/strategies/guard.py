"""The sync guard: proof that replicas train one model.

At start every replica feeds a gradient that depends on its rank through the same `sum` that training
uses; the result must be exact. At start and at every checkpoint each replica hashes its own copy of
every variable, and the hashes must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lehr.errors import SyncError, letter
from lehr.strategies.strategy import Batch, Replicated, Strategy


def _bits(value: Any) -> Any:
    """The bit pattern of a tensor as int64 [elements]."""
    width = {1: tf.uint8, 2: tf.uint16, 4: tf.uint32, 8: tf.int64}[value.dtype.size]
    flat = tf.reshape(value, [tf.size(value)])
    if value.dtype == tf.bool:
        return tf.cast(flat, tf.int64)
    return tf.cast(flat if flat.dtype == width else tf.bitcast(flat, width), tf.int64)


def digest(value: Any) -> Any:
    """Hash of a tensor's bits: int64 scalar.

    A sum of bit patterns times odd numbers that depend on the place, modulo 2**64. One changed bit
    changes one term by an odd multiple of a power of two, so it always changes the sum.
    """
    bits = _bits(value)
    place = tf.range(tf.size(bits, out_type=tf.int64), dtype=tf.int64)
    return tf.reduce_sum(bits * (place * np.int64(0x1E3779B97F4A7C16) + 1))


def _halves(hashes: Any) -> Any:
    """int64 [n] as float32 [4 n] of 16 bits each, which every exchange carries exactly."""
    shifts = tf.constant([0, 16, 32, 48], tf.int64)
    parts = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(hashes[:, None], shifts), tf.constant(0xFFFF, tf.int64)
    )
    return tf.reshape(tf.cast(parts, tf.float32), [-1])


def gather(strategy: Strategy, row: Any) -> Any:
    """Every replica's `row`, float32 [n], as [replicas, n]; inside a compiled function."""
    mine = tf.one_hot(strategy.replica(), strategy.replicas)[:, None] * row[None, :]
    return strategy.sum([mine])[0]


class Guard:
    """Checks of one strategy and one list of named variables."""

    def __init__(self, strategy: Strategy, variables: dict[str, Any]) -> None:
        self._strategy = strategy
        self._names = list(variables)
        values = list(variables.values())

        def hashes(batch: Batch) -> Batch:
            row = _halves(tf.stack([digest(tf.convert_to_tensor(value)) for value in values]))
            return {"hashes": gather(strategy, row)}

        self._hashes = strategy.compile(hashes, name="guard_hashes")
        self._sums = strategy.compile(self._rank_dependent, name="guard_sums")

    def _rank_dependent(self, batch: Batch) -> Batch:
        rank = tf.cast(self._strategy.replica(), tf.float32)
        gradients = [tf.fill([7], rank + 1.0), tf.fill([3, 5], 2.0 * rank + 1.0)]
        first, second = self._strategy.sum(gradients)
        return {"first": first, "second": second}

    def check_sum(self) -> None:
        """Raise SyncError unless sums over replicas are exact on every local replica."""
        count = self._strategy.replicas
        wanted = {"first": count * (count + 1) / 2, "second": float(count * count)}
        for result in self._call(self._sums):
            for name, value in wanted.items():
                came = np.unique(result[name])
                if came.tolist() != [value]:
                    raise SyncError(
                        letter(
                            f"sync guard, rank {self._strategy.rank}",
                            f"a sum over {count} replicas gave {came.tolist()} where {value} is right",
                            do="gradients are not exchanged: check the strategy and the Horovod build "
                            "(`lehr doctor`)",
                        )
                    )

    def check_parameters(self, step: int) -> None:
        """Raise SyncError, naming the variables, unless all replicas hold the same bits."""
        if self._strategy.replicas == 1:  # tracing the hashes takes as long as many steps of a small model
            return
        table = np.asarray(self._call(self._hashes)[0]["hashes"])
        parts = table.reshape(self._strategy.replicas, len(self._names), 4)
        for index, name in enumerate(self._names):
            odd = [r for r in range(len(parts)) if (parts[r, index] != parts[0, index]).any()]
            if odd:
                raise SyncError(
                    letter(
                        f"sync guard at step {step}",
                        f"variable {name} of replica {odd[0]} differs from replica 0's",
                        do="the replicas train different models; resume from the last checkpoint, and "
                        "if it comes again suspect the exchange or the memory of that device",
                    )
                )

    def _call(self, program: Replicated) -> list[Batch]:
        empty: Sequence[Batch] = [{"none": np.zeros([], np.float32)}] * self._strategy.local_replicas
        return [{k: np.asarray(v) for k, v in part.items()} for part in program(empty)]


def share(strategy: Strategy, numbers: Sequence[int]) -> list[list[int]]:
    """Every worker's `numbers` (each in 0 .. 2**62), on every worker; in order of rank."""
    if strategy.workers == 1:
        return [list(numbers)]
    program = strategy.compile(
        lambda batch: {"rows": gather(strategy, _halves(batch["numbers"]))}, name="share"
    )
    batch = {"numbers": np.asarray(numbers, np.int64)}
    rows = np.asarray(program([batch] * strategy.local_replicas)[0]["rows"])
    parts = rows[:: strategy.local_replicas].reshape(strategy.workers, -1, 4).astype(np.int64)
    return [[int(p[0] | p[1] << 16 | p[2] << 32 | p[3] << 48) for p in row] for row in parts]


def agree(strategy: Strategy, numbers: Sequence[int]) -> list[int]:
    """Rank 0's `numbers`, on every rank."""
    return share(strategy, numbers)[0]

"""Random numbers addressed inside compiled code: a draw is a function of (seed, purpose, step, k, example).

TensorFlow's stateless Philox ops (Salmon et al. 2011, 4x32-10) take a key of 64 bits and a counter of 128,
and give four numbers of 32 bits for each count. The key holds (seed, purpose), the counter's upper word
(step, k), its lower word the example's place. So a replica's rows are the same rows of the global draw, bit
for bit on a CPU, without making the others. XLA has a Philox of its own: other numbers at the same address,
but cut in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from lehr.seeds import Purpose, key

CHAIN_STEPS = 1 << 20
"""k is below this: the upper word is step * 2**20 + k, so `step` may go to 2**43."""
TRAINING_STEPS = 1 << 43

_PHILOX = 1
_AT_ONCE = 4  # numbers that one count of the counter gives


@dataclass(frozen=True)
class Noise:
    """The stream of one seed and purpose."""

    seed: int
    purpose: Purpose

    def normal(self, shape: tuple[Any, ...], *, step: Any, k: Any, first: Any) -> Any:
        """Standard normal numbers.

        Args:
            shape: [rows, ...]; all but `rows` known when traced.
            step: of training, int64 scalar, below 2**43.
            k: of the chain, int64 scalar, below 2**20.
            first: global number of the first row, int64 scalar.

        Returns:
            float32, of `shape`. Row i depends on `first` + i, not on `first` or on the number of rows.

        Raises:
            ValueError: `step` or `k`, where known when traced, is out of bounds.
        """
        return self._draw(tf.raw_ops.StatelessRandomNormalV2, shape, step=step, k=k, first=first)

    def uniform(self, shape: tuple[Any, ...], *, step: Any, k: Any, first: Any) -> Any:
        """Uniform numbers in [-1, 1), float32, of `shape`: arguments, result and errors as of `normal`."""
        unit = self._draw(tf.raw_ops.StatelessRandomUniformV2, shape, step=step, k=k, first=first)
        return 2.0 * unit - 1.0

    def _draw(self, operation: Any, shape: tuple[Any, ...], *, step: Any, k: Any, first: Any) -> Any:
        rows, elements = shape[0], math.prod(shape[1:])
        counts = -(-elements // _AT_ONCE)
        flat = operation(
            shape=[rows * counts * _AT_ONCE],  # flat: XLA pairs numbers by the shape, and rows may be odd
            key=tf.constant([key(self.seed, self.purpose)], tf.uint64),
            counter=_counter(step, k, _int64(first) * counts),
            alg=_PHILOX,
        )
        return tf.reshape(tf.reshape(flat, [rows, counts * _AT_ONCE])[:, :elements], shape)


def _counter(step: Any, k: Any, low: Any) -> Any:
    """uint64 [2]: the counter's lower and upper word."""
    _check("step", step, TRAINING_STEPS)
    _check("k", k, CHAIN_STEPS)
    return tf.bitcast(tf.stack([low, _int64(step) * CHAIN_STEPS + _int64(k)]), tf.uint64)


def _check(name: str, value: Any, bound: int) -> None:
    known = tf.get_static_value(value) if tf.is_tensor(value) else value
    if known is not None and not 0 <= known < bound:
        raise ValueError(f"{name} = {known} has no address: 0 <= {name} < {bound}")


def _int64(value: Any) -> Any:
    return tf.cast(value, tf.int64)

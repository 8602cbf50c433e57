"""Dropout (Srivastava et al. 2014) with addressed choices: they are the same for any number of replicas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from lehr.seeds import Purpose, key

LAYERS = 1 << 20
"""A layer's number is below this: the counter's upper word is step * 2**20 + layer, as for all noise."""

_PHILOX = 1
_OF_A_COUNT = 8  # choices: a count gives 128 bits, and a choice takes 16
_CHANCES = 1 << 16


@dataclass(frozen=True)
class Dropout:
    """Sets features to 0 in training, each with the same chance, and scales the others up.

    Whether feature e of example i is dropped in layer k at step s depends on (seed, s, k, i, e) alone. A
    choice takes 16 random bits, so the rate is rounded to a multiple of 2**-16; the scale is that of the
    rounded rate.

    Args:
        rate: share of the features that is dropped, in [0, 1).
        seed: of the choices.
    """

    rate: float
    seed: int

    def __call__(self, features: Any, address: tuple[Any, Any], layer: int) -> Any:
        """`features` [batch, ...] with some of them dropped.

        Args:
            features: all dimensions but the first known when traced.
            address: training step and global number of the first example, int64 scalars.
            layer: tells the layers of one model apart, below 2**20.
        """
        dropped = min(round(self.rate * _CHANCES), _CHANCES - 1)
        if dropped == 0:
            return features
        kept = self._bits(tf.shape(features)[0], features.shape[1:], address, layer) >= dropped
        scale = tf.constant(_CHANCES / (_CHANCES - dropped), features.dtype)
        return tf.where(kept, features * scale, tf.zeros([], features.dtype))

    def _bits(self, rows: Any, shape: Any, address: tuple[Any, Any], layer: int) -> Any:
        """int32 [rows, *shape], each in [0, 2**16)."""
        step, first = (tf.cast(part, tf.int64) for part in address)
        elements = math.prod(shape)
        counts = -(-elements // _OF_A_COUNT)
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[rows * counts * 4],
            key=tf.constant([key(self.seed, Purpose.DROPOUT)], tf.uint64),
            counter=tf.bitcast(tf.stack([first * counts, step * LAYERS + layer]), tf.uint64),
            alg=_PHILOX,
            dtype=tf.uint32,
        )
        halves = tf.reshape(tf.bitcast(words, tf.uint16), [rows, counts * _OF_A_COUNT])
        return tf.cast(tf.reshape(halves[:, :elements], [rows, *shape]), tf.int32)

"""Metropolis-adjusted Langevin on a box (Roberts and Tweedie 1996, Bernoulli 2(4), section 1.4).

A step proposes y = x - h c(x) + sqrt(2 h) n, with n standard normal and c the gradient of the energy, cut
at its bound if there is one, and takes it with the chance min(1, exp(a)), so that the stationary law is
exp(-E) on [-1, 1]^d exactly, for any h and any cut:

    a = E(x) - E(y) + sqrt(h / 2) n.(c(x) + c(y)) - (h / 4) |c(x) + c(y)|^2

It is E(x) - E(y) + log q(x | y) - log q(y | x), with the terms that cancel left out: their sizes are the
number of pixels, and float32 would lose the rest.

What is proposed beyond a wall is reflected. Mirrored over and over, the box fills space; there the energy
goes on as its mirror image, no wall is left, and the step above is right with c(y) seen through the mirror:
its sign turns with each odd reflection. Rejecting such proposals instead would be right too, but an image
has hundreds of pixels at a wall, and one of them is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def fold(images: Any) -> tuple[Any, Any]:
    """Into [-1, 1] by reflection at both walls, as often as it takes; and the sign, +1 or -1, with which a
    slope there is seen from where the image was. Both float32, shaped as `images`."""
    turn = tf.math.floormod(images + 1.0, 4.0)
    there = tf.where(turn <= 2.0, turn - 1.0, 3.0 - turn)
    return tf.clip_by_value(there, -1.0, 1.0), tf.where(turn <= 2.0, 1.0, -1.0)


def propose(images: Any, drift: Any, normal: Any, step_size: float) -> tuple[Any, Any]:
    """Where a step leads, folded, and its signs. `drift` is c(x), `normal` is n; all shaped as `images`."""
    return fold(images - step_size * drift + math.sqrt(2.0 * step_size) * normal)


def log_ratio(fall: Any, both: Any, normal: Any, step_size: float) -> Any:
    """The exponent a of the chance that a proposal is taken, float32 [batch].

    Args:
        fall: E(x) - E(y), [batch].
        both: c(x) + c(y), the second seen from where the proposal came from, [batch, ...].
        normal: n, shaped as `both`.
        step_size: h.
    """
    axes = list(range(1, both.shape.rank))
    along = tf.reduce_sum(normal * both, axes)
    return fall + math.sqrt(step_size / 2.0) * along - step_size / 4.0 * tf.reduce_sum(both * both, axes)


def accept(exponent: Any, unit: Any) -> Any:
    """Whether each proposal is taken, bool [batch]: `unit` is uniform in [0, 1). What is no number is not."""
    return unit < tf.exp(tf.minimum(exponent, 0.0))


def chosen(taken: Any) -> Callable[[Any, Any], Any]:
    """From (new, old), [batch, ...] each, the new rows where `taken`, bool [batch], and the old ones
    elsewhere."""

    def choose(new: Any, old: Any) -> Any:
        rows = tf.reshape(taken, [-1] + [1] * (new.shape.rank - 1))
        return tf.where(rows, new, old)

    return choose

"""Stochastic gradient Langevin dynamics on images (Welling and Teh 2011; Du and Mordatch 2019).

One step of a chain, in this order (Foster, "Generative Deep Learning", 2nd ed., chapter 7):

    x <- clip(x + noise * N(0, 1), -1, 1)
    g <- clip(dE/dx, -gradient_clip, gradient_clip)       element-wise
    x <- clip(x - step_size * g, -1, 1)

`E` is the energy: low where images are likely. A network that gives a score gives f = -E; `slope_of` is the
one place where the sign turns. Unlike in the textbook form of the dynamics, where noise = sqrt(2 step_size),
noise and step size are set apart: the stationary law is sharper than exp(-E), a descent more than a sampling.
Without clipping, on E = a x^2 / 2 and with r = 1 - step_size a, |r| < 1, the variance of the chain is
(r noise)^2 / (1 - r^2): noise comes before the descent, which shrinks it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import tensorflow as tf

from lehr.dynamics.noise import CHAIN_STEPS, Noise

Slope = Callable[[Any], tuple[Any, Any]]
"""From images float32 [batch, ...] to their energy [batch] and its gradient [batch, ...], both float32."""


@dataclass(frozen=True)
class Rule:
    """How a chain moves.

    Args:
        step_size: how far a step follows the gradient; at most step_size * gradient_clip a pixel.
        noise: standard deviation of what is added in a step.
        gradient_clip: bound of the gradient's elements; None for no bound.
    """

    step_size: float
    noise: float
    gradient_clip: float | None

    @classmethod
    def of(cls, node: Any) -> Rule:
        """That of the spec's `sampler`."""
        return cls(float(node.step_size), float(node.noise), node.gradient_clip)


@dataclass(frozen=True)
class Address:
    """Where a batch of chains has its noise: the stream, the training step, and the first chain's number."""

    noise: Noise
    step: Any = 0
    first: Any = 0

    def moved(self, rows: int) -> Address:
        """That of the chains from row `rows` on."""
        return Address(self.noise, self.step, tf.cast(self.first, tf.int64) + rows)


class Trajectory(NamedTuple):
    """A chain's history: `images` float32 [len(at), batch, ...] after the steps asked for, and `energy`
    float32 [steps, batch], of the noisy images that each step descended from."""

    images: Any
    energy: Any


def slope_of(model: Any) -> Slope:
    """Energy and gradient of a model whose call gives a score f = -E [batch], in inference mode.

    Call it outside the chain's loop: a model with a `slope` of its own prepares its kernels there once.
    """
    if hasattr(model, "slope"):
        slope: Slope = model.slope()
        return slope

    def by_tape(images: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            energy = -tf.cast(tf.reshape(model(images, training=False), [tf.shape(images)[0]]), tf.float32)
        return energy, tape.gradient(energy, images)

    return by_tape


def chains(slope: Slope, start: Any, rule: Rule, address: Address, *, steps: Any, lanes: int = 1) -> Any:
    """Where chains are after `steps` steps.

    Args:
        slope: of the energy that they descend.
        start: images float32 [batch, ...] in [-1, 1].
        rule: of a step.
        address: of their noise.
        steps: int or int32 scalar, at most 2**20.
        lanes: how many slices of the batch go side by side, each on a thread of its own. It pays where
            TensorFlow gives a thread to an op and several ops run at once; results are the same to rounding.

    Returns:
        Images float32 [batch, ...] in [-1, 1]. No gradient flows through them.

    Raises:
        ValueError: more than 2**20 steps.
    """
    if isinstance(steps, int) and steps > CHAIN_STEPS:
        raise ValueError(f"steps = {steps}: a chain has at most {CHAIN_STEPS}")
    ends = [
        _walk(slope, start[row : row + rows] if rows else start, rule, address.moved(row), steps)
        for row, rows in _slices(start.shape[0], lanes)
    ]
    return tf.stop_gradient(tf.concat(ends, 0) if len(ends) > 1 else ends[0])


def trajectory(slope: Slope, start: Any, rule: Rule, address: Address, *, at: Sequence[int]) -> Trajectory:
    """Chains with their history: arguments as of `chains`, and `at`: the steps to keep images of, rising;
    0 is the start, the last is where the chains end.

    Raises:
        ValueError: `at` does not rise from 0 or above to 2**20 or below.
    """
    if not at or list(at) != sorted(set(at)) or at[0] < 0 or at[-1] > CHAIN_STEPS:
        raise ValueError(f"at = {list(at)}: steps must rise, from 0 or above to {CHAIN_STEPS} or below")
    marks = tf.constant([0, *at], tf.int64)
    shape = start.shape
    pictures = tf.TensorArray(tf.float32, size=len(at), element_shape=shape)
    record = tf.TensorArray(tf.float32, size=at[-1], element_shape=shape[:1])

    def stretch(index: Any, images: Any, pictures: Any, record: Any) -> tuple[Any, ...]:
        step = _recorded_step(slope, rule, address)
        _, images, record = tf.while_loop(
            lambda k, *_: k < marks[index + 1], step, (marks[index], images, record), parallel_iterations=1
        )
        return index + 1, images, pictures.write(index, images), record

    _, _, pictures, record = tf.while_loop(
        lambda index, *_: index < len(at), stretch, (0, start, pictures, record), parallel_iterations=1
    )
    energy = record.stack() if at[-1] else tf.zeros([0, tf.shape(start)[0]])
    return Trajectory(tf.stop_gradient(pictures.stack()), tf.stop_gradient(energy))


def _slices(rows: int | None, lanes: int) -> list[tuple[int, int]]:
    """First row and number of rows of each lane, as equal as can be; one where `rows` is not known."""
    if rows is None or not 1 < lanes <= rows:
        return [(0, rows or 0)]
    ends = [rows * lane // lanes for lane in range(lanes + 1)]
    return [(a, b - a) for a, b in pairwise(ends)]


def _walk(slope: Slope, images: Any, rule: Rule, address: Address, steps: Any) -> Any:
    def body(k: Any, images: Any) -> tuple[Any, Any]:
        return k + 1, _step(slope, images, rule, address, k)[0]

    begin, end = tf.constant(0, tf.int64), tf.cast(steps, tf.int64)
    # One iteration at a time: each needs the last one's images, and frames for more only cost.
    return tf.while_loop(lambda k, _: k < end, body, (begin, images), parallel_iterations=1)[1]


def _recorded_step(slope: Slope, rule: Rule, address: Address) -> Callable[..., tuple[Any, ...]]:
    def step(k: Any, images: Any, record: Any) -> tuple[Any, ...]:
        images, energy = _step(slope, images, rule, address, k)
        return k + 1, images, record.write(tf.cast(k, tf.int32), energy)

    return step


def _step(slope: Slope, images: Any, rule: Rule, address: Address, k: Any) -> tuple[Any, Any]:
    """The images after step k + 1, and the energy of those it descended from."""
    if rule.noise > 0.0:
        shape = (tf.shape(images)[0] if images.shape[0] is None else images.shape[0], *images.shape[1:])
        images += rule.noise * address.noise.normal(shape, step=address.step, k=k, first=address.first)
    images = tf.clip_by_value(images, -1.0, 1.0)
    energy, gradient = slope(images)
    if rule.gradient_clip is not None:
        gradient = tf.clip_by_value(gradient, -rule.gradient_clip, rule.gradient_clip)
    return tf.clip_by_value(images - rule.step_size * gradient, -1.0, 1.0), energy

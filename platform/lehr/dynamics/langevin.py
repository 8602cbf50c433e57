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

Two options, both off by default:

- `noise_end`: the noise falls geometrically from `noise` at a chain's first step to `noise_end` at its
  last, as in annealing. The chain of one training step, or of one sample, is the whole of it: a chain that
  goes on from the buffer is warm again.
- `acceptance`: Metropolis-adjusted Langevin, see `metropolis`. Then the step is the textbook's: noise of
  sqrt(2 step_size), added once after the descent, reflection instead of clipping at the walls, and a test
  that takes or refuses the step as a whole. The law is exp(-E) exactly, where energies are exact: in
  float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import tensorflow as tf

from lehr.dynamics import metropolis
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
        noise_end: what `noise` falls to by a chain's last step; None: it stays.
        acceptance: Metropolis-adjusted; the noise is then sqrt(2 step_size), and `noise` is not used.
    """

    step_size: float
    noise: float
    gradient_clip: float | None
    noise_end: float | None = None
    acceptance: bool = False

    @classmethod
    def of(cls, node: Any) -> Rule:
        """That of the spec's `sampler`; what it does not have is off."""
        end, acceptance = getattr(node, "noise_end", None), getattr(node, "acceptance", False)
        return cls(float(node.step_size), float(node.noise), node.gradient_clip, end, bool(acceptance))

    def noise_at(self, k: Any, steps: Any) -> Any:
        """The noise of step `k` (int64 scalar, from 0) of a chain of `steps`: a number, or float32 scalar."""
        if self.noise_end is None or self.noise_end == self.noise:
            return self.noise
        last = tf.maximum(tf.cast(steps, tf.float32) - 1.0, 1.0)
        return self.noise * tf.exp(math.log(self.noise_end / self.noise) * tf.cast(k, tf.float32) / last)

    def cut(self, gradient: Any) -> Any:
        """`gradient` within its bound."""
        if self.gradient_clip is None:
            return gradient
        return tf.clip_by_value(gradient, -self.gradient_clip, self.gradient_clip)


@dataclass(frozen=True)
class Address:
    """Where a batch of chains has its noise: the stream, the training step, the first chain's number, and the
    stream of what decides on acceptance, where it is asked for."""

    noise: Noise
    step: Any = 0
    first: Any = 0
    chance: Noise | None = None

    def moved(self, rows: int) -> Address:
        """That of the chains from row `rows` on."""
        return Address(self.noise, self.step, tf.cast(self.first, tf.int64) + rows, self.chance)

    def normal(self, images: Any, k: Any) -> Any:
        """The noise of step `k`, shaped as `images`."""
        shape = (_rows(images), *images.shape[1:])
        return self.noise.normal(shape, step=self.step, k=k, first=self.first)

    def unit(self, images: Any, k: Any) -> Any:
        """Uniform in [0, 1), float32 [batch], to decide on step `k` of each chain."""
        if self.chance is None:
            raise ValueError("acceptance needs a stream of its own: Address(chance=...)")
        signed = self.chance.uniform((_rows(images),), step=self.step, k=k, first=self.first)
        return (signed + 1.0) / 2.0


class Trajectory(NamedTuple):
    """A chain's history: `images` float32 [len(at), batch, ...] after the steps asked for, and `energy`
    float32 [steps, batch], of the noisy images that each step descended from; with acceptance, of those that
    each step ended at."""

    images: Any
    energy: Any


class Ends(NamedTuple):
    """Where chains are: `images` float32 [batch, ...]; `gradient`, shaped the same, dE/dx that the last step
    came upon, before its bound; and `taken` float32 [batch], how many steps were: all, without acceptance."""

    images: Any
    gradient: Any
    taken: Any


class _State(NamedTuple):
    """What a step begins with."""

    images: Any
    gradient: Any
    energy: Any
    taken: Any


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
    """Images of `ends`, of the same arguments."""
    return ends(slope, start, rule, address, steps=steps, lanes=lanes).images


def ends(slope: Slope, start: Any, rule: Rule, address: Address, *, steps: Any, lanes: int = 1) -> Ends:
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
        Images float32 [batch, ...] in [-1, 1] and what the way there was like. No gradient flows through
        them.

    Raises:
        ValueError: more than 2**20 steps.
    """
    if isinstance(steps, int) and steps > CHAIN_STEPS:
        raise ValueError(f"steps = {steps}: a chain has at most {CHAIN_STEPS}")
    found = [
        _walk(slope, start[row : row + rows] if rows else start, rule, address.moved(row), steps)
        for row, rows in _slices(start.shape[0], lanes)
    ]
    return Ends(
        *(tf.stop_gradient(tf.concat(of, 0) if len(of) > 1 else of[0]) for of in zip(*found, strict=True))
    )


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

    def stretch(index: Any, state: Any, pictures: Any, record: Any) -> tuple[Any, ...]:
        step = _recorded_step(slope, rule, address, at[-1])
        _, state, record = tf.while_loop(
            lambda k, *_: k < marks[index + 1], step, (marks[index], state, record), parallel_iterations=1
        )
        return index + 1, state, pictures.write(index, state.images), record

    first = _begin(slope, start, rule)
    _, _, pictures, record = tf.while_loop(
        lambda index, *_: index < len(at), stretch, (0, first, pictures, record), parallel_iterations=1
    )
    energy = record.stack() if at[-1] else tf.zeros([0, tf.shape(start)[0]])
    return Trajectory(tf.stop_gradient(pictures.stack()), tf.stop_gradient(energy))


def _slices(rows: int | None, lanes: int) -> list[tuple[int, int]]:
    """First row and number of rows of each lane, as equal as can be; one where `rows` is not known."""
    if rows is None or not 1 < lanes <= rows:
        return [(0, rows or 0)]
    ends = [rows * lane // lanes for lane in range(lanes + 1)]
    return [(a, b - a) for a, b in pairwise(ends)]


def _walk(slope: Slope, images: Any, rule: Rule, address: Address, steps: Any) -> Ends:
    def body(k: Any, state: _State) -> tuple[Any, _State]:
        return k + 1, _step(slope, state, rule, address, k, steps)

    begin, end = tf.constant(0, tf.int64), tf.cast(steps, tf.int64)
    # One iteration at a time: each needs the last one's images, and frames for more only cost.
    state = tf.while_loop(
        lambda k, _: k < end, body, (begin, _begin(slope, images, rule)), parallel_iterations=1
    )[1]
    return Ends(state.images, state.gradient, state.taken)


def _recorded_step(slope: Slope, rule: Rule, address: Address, steps: int) -> Callable[..., tuple[Any, ...]]:
    def step(k: Any, state: _State, record: Any) -> tuple[Any, ...]:
        state = _step(slope, state, rule, address, k, steps)
        return k + 1, state, record.write(tf.cast(k, tf.int32), state.energy)

    return step


def _begin(slope: Slope, images: Any, rule: Rule) -> _State:
    """Where chains start; with acceptance they look around first."""
    none = tf.zeros([_rows(images)], tf.float32)
    if not rule.acceptance:
        return _State(images, tf.zeros_like(images), none, none)
    return _State(images, *_shaped(images, *slope(images)), none)


def _step(slope: Slope, state: _State, rule: Rule, address: Address, k: Any, steps: Any) -> _State:
    """Step `k` of `steps`."""
    if rule.acceptance:
        return _tested_step(slope, state, rule, address, k)
    images = state.images
    if rule.noise > 0.0:
        images += rule.noise_at(k, steps) * address.normal(images, k)
    images = tf.clip_by_value(images, -1.0, 1.0)
    gradient, energy = _shaped(images, *slope(images))
    images = tf.clip_by_value(images - rule.step_size * rule.cut(gradient), -1.0, 1.0)
    return _State(images, gradient, energy, state.taken + 1.0)


def _tested_step(slope: Slope, state: _State, rule: Rule, address: Address, k: Any) -> _State:
    """One step with acceptance. The gradient where it starts is known from the last one."""
    drift, normal = rule.cut(state.gradient), address.normal(state.images, k)
    images, sign = metropolis.propose(state.images, drift, normal, rule.step_size)
    gradient, energy = _shaped(images, *slope(images))
    both = drift + sign * rule.cut(gradient)
    exponent = metropolis.log_ratio(state.energy - energy, both, normal, rule.step_size)
    taken = metropolis.accept(exponent, address.unit(images, k))
    choose = metropolis.chosen(taken)
    return _State(
        choose(images, state.images),
        choose(gradient, state.gradient),
        choose(energy, state.energy),
        state.taken + tf.cast(taken, tf.float32),
    )


def _shaped(images: Any, energy: Any, gradient: Any) -> tuple[Any, Any]:
    """Gradient and energy, in the order of a state; a model may have left their shapes open."""
    return tf.ensure_shape(gradient, images.shape), tf.ensure_shape(energy, images.shape[:1])


def _rows(images: Any) -> Any:
    rows = images.shape[0]
    return tf.shape(images)[0] if rows is None else rows

"""Samples: long chains from uniform noise, with their history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lehr.dynamics.langevin import Address, Rule, Trajectory, slope_of, trajectory
from lehr.dynamics.noise import Noise
from lehr.seeds import Purpose

MARKS = (0, 1, 3, 5, 10, 30, 50, 100, 300, 999)
"""Steps at which the book shows a chain (Foster, 2nd ed., figure 7-8)."""


def marks(steps: int) -> tuple[int, ...]:
    """The steps to keep images of, for a chain of `steps`: those of `MARKS` that it reaches, and its end."""
    return (*(mark for mark in MARKS if mark < steps), steps)


class Sampler:
    """Draws from a model whose call gives a score f = -E.

    Sample i depends on the seed, on i and on the weights alone: not on the training step, nor on how many are
    drawn at once. So two checkpoints are compared on the same chains.

    Args:
        model: as `slope_of` takes it; its weights are read at each draw.
        node: `sampler` of the spec.
        shape: of one image, [height, width, channels].
        seed: of the samples.
        xla: compile with XLA.
    """

    def __init__(
        self, model: Any, node: Any, shape: tuple[int, ...], *, seed: int, xla: bool = False
    ) -> None:
        self._xla = xla
        self._model, self._rule, self._shape = model, Rule.of(node), tuple(shape)
        self._start, self._noise = Noise(seed, Purpose.SAMPLE_START), Noise(seed, Purpose.SAMPLE_NOISE)
        self._chance = Noise(seed, Purpose.DRAW)
        self._programs: dict[tuple[int, tuple[int, ...]], Any] = {}

    def draw(self, count: int, *, at: Sequence[int], first: int = 0) -> Trajectory:
        """Samples `first` to `first` + `count`, as NumPy arrays.

        Args:
            count: how many.
            at: steps to keep images of, rising; the last is where the chains end.
            first: number of the first.

        Returns:
            Images float32 [len(at), count, *shape] in [-1, 1], and energy float32 [steps, count].
        """
        wanted = (count, tuple(at))
        if wanted not in self._programs:  # tracing takes seconds
            self._programs[wanted] = tf.function(
                self._program(*wanted), autograph=False, jit_compile=self._xla
            )
        images, energy = self._programs[wanted](tf.constant(first, tf.int64))
        return Trajectory(np.asarray(images), np.asarray(energy))

    def _program(self, count: int, at: tuple[int, ...]) -> Any:
        def program(first: Any) -> Trajectory:
            start = self._start.uniform((count, *self._shape), step=0, k=0, first=first)
            address = Address(self._noise, 0, first, self._chance)
            return trajectory(slope_of(self._model), start, self._rule, address, at=at)

        return program

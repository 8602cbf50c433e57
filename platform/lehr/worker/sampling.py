"""Samples of an energy-based model: chains from noise, addressed by (seed, chain) alone.

The address leaves out the training step, so two checkpoints are compared on the same chains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from lehr.dynamics.langevin import Address, Rule, slope_of, trajectory
from lehr.dynamics.noise import Noise
from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.seeds import Purpose
from lehr.worker.build import network, xla
from lehr.worker.state import assign, named_weights

MARKS = (0, 1, 3, 5, 10, 30, 50, 100, 300, 999)
"""Steps after which a chain's picture is kept (Foster, "Generative Deep Learning", figure 7-8)."""


@dataclass(frozen=True)
class Samples:
    """What chains came to.

    Args:
        images: after the last step, float32 [count, height, width, channels] in [-1, 1].
        frames: along each chain, float32 [len(frame_steps), count, height, width, channels].
        frame_steps: after how many steps each frame is.
        energies: of what each step descended from, float32 [steps, count].
    """

    images: np.ndarray
    frames: np.ndarray
    frame_steps: tuple[int, ...]
    energies: np.ndarray


class Sampler:
    """Draws from `model` as it is at that moment; compiles once for each (count, steps, seed).

    Args:
        plan: of the run.
        model: its network, built.

    Raises:
        UserError: this kind of model has no sampler.
    """

    def __init__(self, plan: Plan, model: Any) -> None:
        if plan.spec.sampler is None:
            raise UserError(
                letter(
                    f"run {plan.run_id}",
                    f"its model, {plan.spec.model.kind}, has no sampler",
                    accepted="a run of a model that can be sampled, such as ebm",
                )
            )
        self._plan, self._model = plan, model
        self._programs: dict[tuple[int, tuple[int, ...], int], Callable[..., Any]] = {}

    def draw(self, *, count: int, steps: int, seed: int | None = None) -> Samples:
        """`count` chains of `steps` steps; `seed` is the run's unless given."""
        marks = (*(mark for mark in MARKS if mark < steps), steps)
        seed = self._plan.spec.train.seed if seed is None else seed
        drawn = self._program(count, marks, seed)(self._start(count, seed))
        images = np.asarray(drawn.images)
        return Samples(images[-1], images, marks, np.asarray(drawn.energy))

    def _start(self, count: int, seed: int) -> Any:
        noise = Noise(seed, Purpose.SAMPLE_START)
        return noise.uniform((count, *self._plan.spec.data.shape), step=0, k=0, first=0)

    def _program(self, count: int, marks: tuple[int, ...], seed: int) -> Callable[..., Any]:
        key = (count, marks, seed)
        if key not in self._programs:
            rule = Rule.of(self._plan.spec.sampler)
            noise = Noise(seed, Purpose.SAMPLE_NOISE)

            @tf.function(jit_compile=xla(self._plan))
            def program(start: Any) -> Any:
                return trajectory(slope_of(self._model), start, rule, Address(noise), at=marks)

            self._programs[key] = program
        return self._programs[key]


def restored(plan: Plan, weights: Mapping[str, np.ndarray]) -> Any:
    """The plan's network with `weights`, by name, as checkpoints hold them."""
    model = network(plan, plan.spec.data.shape)
    assign(named_weights(model), dict(weights), what="weights")
    return model

"""Samples of a run's model: chains from noise, addressed by (seed, chain) alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lehr.dynamics import samples as dynamics
from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.worker.build import network, xla
from lehr.worker.state import assign, named_weights


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
    """Draws from `model` as it is at that moment; compiles once for each seed, count and number of steps.

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
        self._by_seed: dict[int, dynamics.Sampler] = {}

    def draw(self, *, count: int, steps: int, seed: int | None = None) -> Samples:
        """`count` chains of `steps` steps; `seed` is the run's unless given."""
        seed = self._plan.spec.train.seed if seed is None else seed
        if seed not in self._by_seed:
            node, shape = self._plan.spec.sampler, self._plan.spec.data.shape
            self._by_seed[seed] = dynamics.Sampler(self._model, node, shape, seed=seed, xla=xla(self._plan))
        marks = dynamics.marks(steps)
        drawn = self._by_seed[seed].draw(count, at=marks)
        return Samples(drawn.images[-1], drawn.images, marks, drawn.energy)


def restored(plan: Plan, weights: Mapping[str, np.ndarray]) -> Any:
    """The plan's network with `weights`, by name, as checkpoints hold them; in the plan's precision."""
    keras.config.set_dtype_policy(plan.spec.train.precision)
    model = network(plan, plan.spec.data.shape)
    assign(named_weights(model), dict(weights), what="weights")
    return model

"""Samples of a run's model, whatever its kind draws: what is asked for, and who draws it.

The row of a model's kind names the class that draws from it (`draws`). Sample i depends on the seed, on i and
on the weights alone: not on the training step, nor on how many are drawn at once.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.samples import Drawn
from lehr.worker.build import network
from lehr.worker.state import assign, named_weights

ASSETS = "assets"  # folder of a run: what its data left for samples


@dataclass(frozen=True)
class Wanted:
    """What to draw. A kind of model takes some of what follows the seed: `settings` of its row.

    Args:
        count: how many.
        seed: of the samples.
        steps: of each chain.
        temperature: below 1 likely values become likelier; 0 takes the likeliest.
        top_k: draw from the k likeliest words only; None: from all.
        prompt: how a text begins; None: with nothing.
        length: most words of a text, those of the prompt included.
    """

    count: int
    seed: int
    steps: int = 1000
    temperature: float = 1.0
    top_k: int | None = None
    prompt: str | None = None
    length: int = 100

    @classmethod
    def of(cls, plan: Plan, **asked: Any) -> Wanted:
        """What the job asks for, but for what is given here and not None."""
        node, names = plan.spec.samples, [field.name for field in dataclasses.fields(cls)]
        told = {name: getattr(node, name) for name in names if name != "seed"} if node is not None else {}
        given = {name: value for name, value in asked.items() if value is not None}
        return cls(**({"count": 16, "seed": plan.spec.train.seed} | told | given))

    def settings(self, plan: Plan) -> dict[str, Any]:
        """Those that the plan's kind of model takes, by name."""
        return {name: getattr(self, name) for name in plan.spec.model.settings}


class Drawer(Protocol):
    """Draws from a model as it is at that moment; compiles once for each shape of what is wanted."""

    def __init__(self, plan: Plan, model: Any, assets: Mapping[str, bytes]) -> None:
        """Args: the run's plan; its network, built; files that its data left for samples."""
        ...

    def draw(self, wanted: Wanted) -> Drawn:
        """Samples 0 to `wanted.count`.

        Raises:
            UserError: it cannot be: a prompt of words that are not known, for example.
        """
        ...


def drawer(plan: Plan, model: Any, assets: Mapping[str, bytes]) -> Drawer:
    """What draws from the plan's model.

    Raises:
        UserError: nothing can.
    """
    if not plan.spec.draws:
        raise UserError(
            letter(
                f"run {plan.run_id}",
                f"its model, {plan.spec.model.kind}, has no sampler",
                accepted="a run of a model that can be sampled, such as ebm",
            )
        )
    module, _, attribute = plan.spec.draws.partition(":")
    made: Drawer = getattr(importlib.import_module(module), attribute)(plan, model, assets)
    return made


def restored(plan: Plan, weights: Mapping[str, np.ndarray]) -> Any:
    """The plan's network with `weights`, by name, as checkpoints hold them; in the plan's precision."""
    keras.config.set_dtype_policy(plan.spec.train.precision)
    model = network(plan, plan.spec.data.shape)
    assign(named_weights(model), dict(weights), what="weights")
    return model

"""What the kinds of Boltzmann machines do differently in one step of contrastive divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

from lehr.dynamics.gibbs import Coins
from lehr.dynamics.noise import Noise
from lehr.objectives.objective import Batch
from lehr.seeds import Purpose


@dataclass(frozen=True)
class Settings:
    """What the phases need of a spec.

    Args:
        sweeps: of a chain in a step (k).
        is_persistent: chains go on from where they were.
        settle: sweeps over hidden units with the data clamped, where they do not sum out.
        layer_steps: for how many steps each layer of a stack but the last is trained; 0 where there is none.
        layers: of the stack.
        seed: of the run.
    """

    sweeps: int
    is_persistent: bool
    settle: int
    layer_steps: int
    layers: int
    seed: int

    @classmethod
    def of(cls, node: Any, spec: Any) -> Settings:
        """Those of the spec; `node` is its objective."""
        steps = 0
        if node.layer is not None:
            examples, batch = spec.data.examples()[0], spec.train.global_batch
            steps = node.layer.steps_for(train_examples=examples, global_batch=batch)
        hidden = spec.model.hidden
        layers = len(hidden) if isinstance(hidden, tuple) else 1
        sampler = spec.sampler
        return cls(sampler.steps, sampler.persistent, node.settle, steps, layers, spec.train.seed)

    def coins(self, batch: Batch) -> Coins:
        """Of the chains of a training step."""
        return Coins(Noise(self.seed, Purpose.GIBBS_NOISE), batch["step"], batch["first"])

    def held_out_coins(self, batch: Batch) -> Coins:
        """Of what is drawn for a held-out batch."""
        return Coins(Noise(self.seed, Purpose.VALIDATION_NOISE), batch["step"], batch["first"])


class Phases(Protocol):
    """One kind of machine. All but `validate` see a training batch."""

    def __init__(self, settings: Settings) -> None: ...

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """What the energies need, and `chain` [batch, units] where chains persist: they begin at `start`."""
        ...

    def energies(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Of the prepared data, and of the chains: float32 [batch] each."""
        ...

    def squares(self, model: Any, batch: Batch) -> Any:
        """Sum of the squares of the weights that weight decay holds small."""
        ...

    def validate(self, model: Any, batch: Batch) -> Batch:
        """`pseudo_log_likelihood`, `reconstruction` and `data_energy` of each row, float32 [batch]."""
        ...


def random_unit(coins: Coins, visible: Any, k: int) -> Any:
    """One addressed visible unit for each row of [batch, visible]: int32 [batch]."""
    units = visible.shape[1]
    chance = 0.5 + 0.5 * coins.uniform(visible[:, :1], k)[:, 0]
    return tf.minimum(tf.cast(chance * units, tf.int32), units - 1)


def pseudo_log_likelihood(log_probability: Any, units: int) -> Any:
    """Of Besag (1975), sum over units i of log p(v_i | all other visible units), as an unbiased estimate from
    the log-probability [batch] of one unit taken at random: float32 [batch]."""
    return float(units) * log_probability


def squared_error(visible: Any, log_odds: Any) -> Any:
    """Mean over units of (v - p)^2, float32 [batch]."""
    return tf.reduce_mean((visible - tf.sigmoid(log_odds)) ** 2, axis=1)

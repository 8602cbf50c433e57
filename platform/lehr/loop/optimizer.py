"""Keras optimizers for gradients that are already summed, loss scaling for float16, and a mean of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lehr.strategies.strategy import Strategy

AVERAGE, UPDATES = "average/", "average_updates"


def build(node: Any) -> Any:
    """The Keras optimizer of the spec's `train.optimizer` node; create it in the strategy's scope."""
    settings = node.model_dump(exclude={"kind"})
    return _summed(getattr(keras.optimizers, {"adam": "Adam", "sgd": "SGD"}[node.kind]))(**settings)


def _summed(kind: type[Any]) -> type[Any]:
    """`kind` without its own sum over replicas.

    In replica context Keras 3 sums the gradients itself. Ours are summed already, in one exchange with
    the metrics, because clipping by global norm belongs after the sum: a second sum would multiply them
    by the number of replicas.
    """

    class Summed(kind):
        def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
            return list(grads_and_vars)

    Summed.__name__ = kind.__name__
    return Summed


class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).

    The loss is multiplied by `scale`; when a gradient overflows, the update is left out and the scale
    halves; after `patience` good steps in a row it doubles.
    """

    def __init__(self, *, start: float = 2.0**15, patience: int = 2000) -> None:
        self._patience = patience
        # Each replica computes the same value, so the first one's is everybody's.
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.scale = tf.Variable(
            start, trainable=False, dtype=tf.float32, aggregation=first, name="loss_scale"
        )
        self.good = tf.Variable(0, trainable=False, dtype=tf.int64, aggregation=first, name="loss_scale_good")

    @property
    def variables(self) -> dict[str, Any]:
        return {"loss_scale/scale": self.scale, "loss_scale/good_steps": self.good}

    def update(self, finite: Any) -> None:
        """Adapt after a step; `finite` is a bool scalar."""
        grown = finite & (self.good + 1 >= self._patience)
        factor = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5)
        self.scale.assign(tf.clip_by_value(self.scale * factor, 1.0, 2.0**24))
        self.good.assign(tf.where(finite & ~grown, self.good + 1, tf.zeros_like(self.good)))


class Average:
    """A running mean of the weights along training (Polyak and Juditsky 1992), which forgets exponentially.

    With Adam's correction for the beginning (Kingma and Ba 2015, section 3), so that after t updates it is
    the mean of the weights after each of them, weighted by decay^(t - i), and the weights before the first
    count for nothing:

        mean <- mean + (1 - decay) / (1 - decay^t) (weights - mean)

    Variables that are not trained, such as moments of a batch normalisation, have no mean: theirs is
    themselves.

    Args:
        weights: trained Keras variables by name; create this in the strategy's scope.
        decay: in (0, 1).
    """

    def __init__(self, weights: Mapping[str, Any], decay: float) -> None:
        self._weights, self._decay = dict(weights), decay
        # Each replica computes the same value, so the first one's is everybody's.
        kind = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._means = {
            name: tf.Variable(weight.numpy(), name=f"average/{name}", **kind)
            for name, weight in self._weights.items()
        }
        self._updates = tf.Variable(0, dtype=tf.int64, name="average_updates", **kind)

    @property
    def variables(self) -> dict[str, Any]:
        """What a checkpoint keeps, by name; `AVERAGE` + a weight's name for its mean."""
        return {AVERAGE + name: mean for name, mean in self._means.items()} | {UPDATES: self._updates}

    def update(self, taken: Any) -> None:
        """Count the weights of now in, inside a step; where `taken`, a bool scalar, is false, do nothing."""
        updates = self._updates + 1
        past = tf.math.expm1(tf.cast(updates, tf.float32) * math.log(self._decay))  # decay^t - 1
        share = (self._decay - 1.0) / past
        means = [tf.convert_to_tensor(mean) for mean in self._means.values()]
        weights = [tf.convert_to_tensor(weight.value) for weight in self._weights.values()]
        moved = [mean + share * (weight - mean) for mean, weight in zip(means, weights, strict=True)]
        _put_back([*self._means.values(), self._updates], [*moved, updates], ~taken)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """For as long as it lasts, outside a step, the model has the means for weights; then its own again,
        to the bit."""
        if int(self._updates.numpy()) == 0:
            yield
            return
        own = {name: weight.numpy() for name, weight in self._weights.items()}
        self._put({name: mean.numpy() for name, mean in self._means.items()})
        try:
            yield
        finally:
            self._put(own)

    def _put(self, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self._weights[name].assign(value)


def averaged(weights: Mapping[str, np.ndarray], optimizer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights to draw and to judge with, by name, of a checkpoint's `weights` and `optimizer` arrays: the
    means, where there are any."""
    if not int(optimizer.get(UPDATES, 0)):
        return dict(weights)
    return {name: optimizer.get(AVERAGE + name, value) for name, value in weights.items()}


def apply_if(
    finite: Any, optimizer: Any, gradients: list[Any], variables: list[Any], strategy: Strategy
) -> None:
    """Apply `gradients` where `finite`, else leave variables and slots as they were.

    A branch cannot hold the update (tf.distribute may not merge replicas inside tf.cond), so the update
    is made on harmless zeros and the old values are put back.
    """
    touched = [*variables, *(v.value for v in optimizer.variables)]
    before = [tf.identity(tf.convert_to_tensor(v)) for v in touched]
    safe = [tf.where(finite, g, tf.zeros_like(g)) for g in gradients]
    with tf.control_dependencies(before):
        strategy.apply(optimizer, safe, variables)
    _put_back(touched, before, finite)


def restart(optimizer: Any, anew: Any) -> None:
    """Where `anew`, a bool scalar, forget all that an optimizer has gathered, its count of updates included;
    its learning rate stays. A variable whose gradient is 0 then does not move: momentum of before is gone."""
    slots = [v.value for v in optimizer.variables if v.name != "learning_rate"]
    _put_back(slots, [tf.zeros_like(tf.convert_to_tensor(v)) for v in slots], ~anew)


def _put_back(variables: list[Any], before: list[Any], finite: Any) -> None:
    def merge(distribution: Any, variables: list[Any], before: list[Any]) -> None:
        for variable, old in zip(variables, before, strict=True):
            distribution.extended.update(
                variable, lambda v, o: v.assign(tf.where(finite, v, o)), args=(old,), group=False
            )

    tf.distribute.get_replica_context().merge_call(merge, args=(variables, before))

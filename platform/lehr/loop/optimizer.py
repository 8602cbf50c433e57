"""Keras optimizers for gradients that are already summed, and loss scaling for float16."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from lehr.strategies.strategy import Strategy


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


def _put_back(variables: list[Any], before: list[Any], finite: Any) -> None:
    def merge(distribution: Any, variables: list[Any], before: list[Any]) -> None:
        for variable, old in zip(variables, before, strict=True):
            distribution.extended.update(
                variable, lambda v, o: v.assign(tf.where(finite, v, o)), args=(old,), group=False
            )

    tf.distribute.get_replica_context().merge_call(merge, args=(variables, before))

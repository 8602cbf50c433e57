"""One training step and one validation step, as compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from lehr.loop.optimizer import Average, LossScale, apply_if, restart
from lehr.objectives.objective import Objective
from lehr.strategies.strategy import Batch, Replicated, Strategy

SIGNALS = 5
"""Length of a batch's `signals`: what was decided on a clock, summed over replicas with the gradients."""


@dataclass(frozen=True)
class StepOptions:
    """What the step needs besides model, objective, optimizer and strategy.

    Args:
        xla: compile sampling, forward and backward pass with XLA; the exchange never is.
        clip: bound of the gradients' global norm, after the sum; None for no bound.
        loss_scale: for float16; None otherwise.
        average: a running mean of the weights, if there is one; an update that is left out does not count.
    """

    xla: bool
    clip: float | None
    loss_scale: LossScale | None
    average: Average | None = None


def training_step(
    model: Any, objective: Objective, optimizer: Any, strategy: Strategy, options: StepOptions
) -> Replicated:
    """The program of one update.

    In: a batch, with `signals` float32 [SIGNALS]. Out: `metrics` float32 [metrics], `signals` float32
    [SIGNALS], `exchange_s` float64 scalar, and the objective's products, one row an example.
    """
    variables = [v.value for v in model.trainable_variables]
    compute = _gradients(model, objective, variables, options)
    if options.xla:
        compute = tf.function(compute, autograph=False, jit_compile=True)

    def step(batch: Batch) -> Batch:
        gradients, shares, products = compute(batch)
        ready = _now(after=gradients)
        *gradients, shares, signals = strategy.sum([*gradients, shares, batch["signals"]])
        exchange_s = _now(after=gradients) - ready
        if hasattr(objective, "anew"):
            restart(optimizer, objective.anew(batch))
        _update(optimizer, gradients, variables, strategy, options)
        return {"metrics": shares, "signals": signals, "exchange_s": exchange_s, **products}

    return strategy.compile(step, name="training_step")


def _gradients(
    model: Any, objective: Objective, variables: list[Any], options: StepOptions
) -> Callable[[Batch], tuple[list[Any], Any, Batch]]:
    def compute(batch: Batch) -> tuple[list[Any], Any, Batch]:
        batch = objective.prepare(model, batch)
        with tf.GradientTape() as tape:
            loss, shares = objective.loss(model, batch)
            if options.loss_scale is not None:
                loss = loss * options.loss_scale.scale
        gradients = tape.gradient(loss, variables)
        vector = tf.stack([tf.cast(shares[name], tf.float32) for name in objective.metrics])
        return gradients, vector, {name: batch[name] for name in objective.products}

    return compute


def _now(*, after: list[Any]) -> Any:
    with tf.control_dependencies(after):
        return tf.timestamp()


def _update(
    optimizer: Any, gradients: list[Any], variables: list[Any], strategy: Strategy, options: StepOptions
) -> None:
    scale, finite = options.loss_scale, tf.constant(True)
    if scale is not None:
        gradients = [g / scale.scale for g in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    if options.clip is not None:
        gradients, _ = tf.clip_by_global_norm(gradients, options.clip)
    if scale is None:
        strategy.apply(optimizer, gradients, variables)
    else:
        apply_if(finite, optimizer, gradients, variables, strategy)
        scale.update(finite)
    if options.average is not None:
        options.average.update(finite)


def validation_step(model: Any, objective: Objective, strategy: Strategy) -> Replicated:
    """The program that scores one held-out batch: `metrics` float32, summed over replicas, in the order of
    `objective.validation_metrics`."""

    def step(batch: Batch) -> Batch:
        shares = objective.validate(model, batch)
        names = objective.validation_metrics
        return {"metrics": strategy.sum([tf.stack([tf.cast(shares[n], tf.float32) for n in names])])[0]}

    return strategy.compile(step, name="validation_step")

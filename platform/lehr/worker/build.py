"""The parts of one worker, made from the plan."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from lehr.data.feed import Feed
from lehr.loop import optimizer as optimizers
from lehr.loop.optimizer import Average, LossScale
from lehr.loop.step import StepOptions, training_step, validation_step
from lehr.objectives.objective import Memory, Objective
from lehr.plan import Plan
from lehr.seeds import Purpose, key
from lehr.spec import kinds
from lehr.strategies.strategy import Replicated, Strategy
from lehr.worker.state import Snapshot, named_slots, named_weights


@dataclass(frozen=True)
class Built:
    """Everything that a life of a run uses."""

    model: Any
    objective: Objective
    memory: Memory | None
    feed: Feed
    held_out: Feed | None  # None: nothing is held out
    snapshot: Snapshot
    variables: dict[str, Any]  # weights and slots by name, for the guard
    update: Replicated
    validate: Replicated
    average: Average | None

    def averaged(self) -> AbstractContextManager[None]:
        """While it lasts, the model has the mean of its weights, if one is kept."""
        return self.average.lent() if self.average is not None else nullcontext()


def network(plan: Plan, shape: tuple[int, ...]) -> Any:
    """The plan's model for inputs of `shape`, built, with weights that depend on the seed alone."""
    keras.utils.set_random_seed(key(plan.spec.train.seed, Purpose.WEIGHTS) % 2**32)
    node = plan.spec.model
    model = kinds.load(node)(node, shape)
    if not model.built:
        model.build((None, *shape))
    return model


def objective_of(plan: Plan) -> Objective:
    node = plan.spec.objective
    objective: Objective = kinds.load(node)(node, plan.spec)
    return objective


def xla(plan: Plan) -> bool:
    """`train.compile: auto` uses XLA where it was measured to win: on GPUs."""
    wish = plan.spec.train.compile
    return wish == "on" or (wish == "auto" and bool(tf.config.list_physical_devices("GPU")))


def build(plan: Plan, strategy: Strategy) -> Built:
    """Load the data, make model, optimizer, memory and programs."""
    spec = plan.spec
    source = kinds.load(spec.data)
    first, rows = strategy.rank * plan.batch_per_worker, plan.batch_per_worker
    share = {"seed": spec.train.seed, "global_batch": plan.global_batch, "first": first, "rows": rows}
    feed = Feed(source(spec.data, "train"), **share)
    held_out = Feed(source(spec.data, "validation"), **share) if plan.validation_examples else None
    with strategy.scope():
        model = network(plan, feed.shape)
        objective = objective_of(plan)
        optimizer = optimizers.build(spec.train.optimizer)
        optimizer.build(model.trainable_variables)
        scale = LossScale() if spec.train.precision == "mixed_float16" else None
        average = _average(model, spec.train.average)
    memory = objective.memory(shape=feed.shape, slots=rows, first_slot=first, global_slots=plan.global_batch)
    slots = named_slots(optimizer) | (scale.variables if scale else {})
    slots |= average.variables if average is not None else {}
    options = StepOptions(xla=xla(plan), clip=spec.train.gradient_clip, loss_scale=scale, average=average)
    snapshot = Snapshot(model, slots, memory, first_slot=first)
    return Built(
        model,
        objective,
        memory,
        feed,
        held_out,
        snapshot,
        snapshot.variables,
        update=training_step(model, objective, optimizer, strategy, options),
        validate=validation_step(model, objective, strategy),
        average=average,
    )


def _average(model: Any, decay: float | None) -> Average | None:
    if decay is None:
        return None
    return Average({name: v for name, v in named_weights(model).items() if v.trainable}, decay)

"""A step of a Boltzmann machine's objective in tests, without a plan."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
from pydantic import TypeAdapter

from lehr.objectives.boltzmann import Boltzmann
from lehr.spec.boltzmann import BoltzmannLearning
from lehr.spec.models import Model

ROWS: TypeAdapter[Any] = TypeAdapter(Model)


def objective(
    kind: str, hidden: Any, *, steps: int = 1, persistent: bool = True, seed: int = 4, **node: Any
) -> Boltzmann:
    """That of a job with this model and sampler; keys of the objective's own node follow."""
    spec = SimpleNamespace(
        model=ROWS.validate_python({"kind": kind, "hidden": hidden}),
        sampler=SimpleNamespace(kind="gibbs", steps=steps, persistent=persistent),
        train=SimpleNamespace(seed=seed, global_batch=8),
        data=SimpleNamespace(examples=lambda: (80, 0)),
    )
    return Boltzmann(BoltzmannLearning.model_validate({"kind": "boltzmann", **node}), spec)


def batch(
    it: Boltzmann, data: np.ndarray, *, step: int = 6, real: int | None = None, rows: slice = slice(None),
    start: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Rows of a global batch of all of `data` [slots, ...], the first `real` of which hold an example; chains
    start from the memory, or from `start`."""
    slots, real = len(data), len(data) if real is None else real
    begin, end, _ = rows.indices(slots)
    weight = (np.arange(slots) < real).astype(np.float32)
    given = {
        "input": tf.constant(data[rows], tf.float32),
        "weight": tf.constant(weight[rows]),
        "step": tf.constant(step, tf.int64),
        "first": tf.constant(begin, tf.int64),
        "count": tf.constant(float(real)),
        "slots": tf.constant(float(slots)),
    }
    memory = it.memory(shape=data.shape[1:], slots=end - begin, first_slot=begin, global_slots=slots)
    if memory is not None:
        given |= {name: tf.constant(array) for name, array in memory.draw(step).items()}
    if start is not None:
        given["start"] = tf.constant(start[rows], tf.float32)
    return given


def step(it: Boltzmann, model: Any, given: dict[str, Any]) -> tuple[dict[str, float], dict[str, Any], Any]:
    """Shares, gradients by the weight's path, and what was prepared."""
    variables = {weight.path: weight.value for weight in model.trainable_variables}

    @tf.function(autograph=False)
    def program() -> Any:
        prepared = it.prepare(model, given)
        with tf.GradientTape() as tape:
            loss, shares = it.loss(model, prepared)
        return shares, tape.gradient(loss, variables), prepared

    shares, gradients, prepared = program()
    return {name: float(share) for name, share in shares.items()}, gradients, prepared


def named(gradients: dict[str, Any]) -> dict[str, np.ndarray]:
    """By the last part of the path."""
    return {path.split("/")[-1]: np.asarray(gradient) for path, gradient in gradients.items()}


def coins(slots: int, units: int, *, seed: int = 0, p: float = 0.5) -> np.ndarray:
    """Binary rows, float32 [slots, units]."""
    return (np.random.default_rng(seed).uniform(size=(slots, units)) < p).astype(np.float32)

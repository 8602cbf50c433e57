"""What every strategy must do, as a program for each worker: `strategy_program.py KIND DEVICES OUT [FAULT]`.

Trains a small network on eight rows under the guard's eyes, then makes one float16-style update that must
leave everything as it was. What came of it goes to OUT.<rank>.npz; a SyncError's text to OUT.<rank>.txt.

FAULT: `skip` leaves the exchange out of the step; `flip` turns one bit of one weight on the last replica;
`identity` gives the guard a sum that does not sum.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lehr.errors import SyncError
from lehr.loop import optimizer as optimizers
from lehr.strategies import devices as hardware
from lehr.strategies.guard import Guard, agree
from lehr.strategies.strategy import Strategy, make

ROWS = np.arange(32, dtype=np.float32).reshape(8, 4) / 32


class Adam:
    """The spec's node, as far as the optimizer's builder reads it."""

    kind = "adam"

    def model_dump(self, exclude: set[str]) -> dict[str, float]:
        return {"learning_rate": 0.1}


class Trial:
    """One model under one strategy."""

    def __init__(self, strategy: Strategy, fault: str) -> None:
        self.strategy, self.fault = strategy, fault
        with strategy.scope():
            keras.utils.set_random_seed(3)
            layers = [
                keras.Input((4,)),
                keras.layers.Dense(3, name="first"),
                keras.layers.Dense(1, name="second"),
            ]
            self.model = keras.Sequential(layers)
            self.optimizer = optimizers.build(Adam())
            self.optimizer.build(self.model.trainable_variables)
            self.scale = optimizers.LossScale()
        self.variables = [v.value for v in self.model.trainable_variables]
        named = {v.path: v.value for v in [*self.model.variables, *self.optimizer.variables]}
        self.guard = Guard(strategy, named)

    def step(self, batch: dict[str, Any]) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self.model(batch["x"]) ** 2)
        gradients = tape.gradient(loss, self.variables)
        if self.fault != "skip":
            *gradients, loss = self.strategy.sum([*gradients, loss])
        self.strategy.apply(self.optimizer, gradients, self.variables)
        return {"loss": loss, "rows": batch["x"] * 2}

    def guarded(self, batch: dict[str, Any]) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self.model(batch["x"]) ** 2)
        gradients = self.strategy.sum(tape.gradient(loss, self.variables))
        finite = batch["finite"] > 0
        optimizers.apply_if(finite, self.optimizer, gradients, self.variables, self.strategy)
        self.scale.update(finite)
        return {"loss": loss}

    def flip(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Turn the lowest bit of one weight of the last replica."""
        kernel = self.variables[2]
        bits = tf.bitcast(tf.convert_to_tensor(kernel), tf.int32)
        last = tf.cast(self.strategy.replica() == self.strategy.replicas - 1, tf.int32)
        mask = tf.scatter_nd([[1, 0]], [last], bits.shape)
        # Each replica's own copy is written, past the strategy: this is the fault, not an update.
        copy = kernel.handle if hasattr(kernel, "handle") else kernel
        tf.raw_ops.AssignVariableOp(
            resource=copy, value=tf.bitcast(tf.bitwise.bitwise_xor(bits, mask), tf.float32)
        )
        return {"done": tf.constant(1)}

    def shares(self) -> list[dict[str, np.ndarray]]:
        s = self.strategy
        rows = 8 // s.replicas
        first = s.rank * s.local_replicas
        return [{"x": ROWS[(first + i) * rows :][:rows]} for i in range(s.local_replicas)]

    def state(self) -> list[np.ndarray]:
        return [v.numpy() for v in [*self.model.variables, *self.optimizer.variables]]


def run(kind: str, devices: int, out: str, fault: str) -> None:
    hardware.configure(threads=1, devices=devices)
    strategy = make(kind, devices=devices)
    numbers = agree(strategy, [strategy.rank * 7 + 12345678901234, 3])
    trial = Trial(strategy, fault)
    if fault == "identity":
        strategy.sum = lambda tensors: list(tensors)  # type: ignore[method-assign]
    trial.guard.check_sum()
    trial.guard.check_parameters(0)
    step = strategy.compile(trial.step, name="step")
    losses = [float(step(trial.shares())[0]["loss"]) for _ in range(5)]
    rows = [np.asarray(part["rows"]) for part in step(trial.shares())]
    if fault == "flip":
        strategy.compile(trial.flip, name="flip")(trial.shares())
    trial.guard.check_parameters(6)
    guarded = strategy.compile(trial.guarded, name="guarded")
    before = trial.state()
    guarded([share | {"finite": np.float32(0)} for share in trial.shares()])
    kept = all((a == b).all() for a, b in zip(before, trial.state(), strict=True))
    halved = float(trial.scale.scale.numpy())
    guarded([share | {"finite": np.float32(1)} for share in trial.shares()])
    moved = not all((a == b).all() for a, b in zip(before, trial.state(), strict=True))
    trial.guard.check_parameters(7)
    weights = np.concatenate([v.numpy().ravel() for v in trial.model.variables])
    np.savez(
        f"{out}.{strategy.rank}.npz",
        numbers=numbers,
        losses=losses,
        rows=np.concatenate(rows),
        weights=weights,
        kept=kept,
        moved=moved,
        halved=halved,
        replicas=strategy.replicas,
    )
    strategy.close()


if __name__ == "__main__":
    kind, devices, out, *fault = sys.argv[1:]
    try:
        run(kind, int(devices), out, fault[0] if fault else "")
    except SyncError as error:
        with open(f"{out}.txt", "a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        sys.exit(3)

"""One replica in one process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

from lehr.strategies.strategy import Batch, Replicated


def tensors(batch: Batch) -> Batch:
    """Arrays as tensors. Python numbers would be constants of the program and make a new one each step."""
    return {name: tf.convert_to_tensor(value) for name, value in batch.items()}


class Single:
    """The strategy of one device: nothing to exchange."""

    kind = "single"
    rank = 0
    workers = 1
    replicas = 1
    local_replicas = 1

    def __init__(self, devices: int = 1) -> None:
        if devices != 1:
            raise ValueError(f"{self.kind} has one device a worker, not {devices}")

    def scope(self) -> nullcontext[None]:
        return nullcontext()

    def compile(self, function: Callable[[Batch], Batch], *, name: str) -> Replicated:
        def run(batch: Batch) -> Batch:
            return function(batch)

        run.__name__ = name
        # No autograph: no program of ours needs it, it slows tracing and leaves files behind when killed.
        program = tf.function(run, autograph=False)
        return lambda batches: [program(tensors(batches[0]))]

    def sum(self, tensors: list[Any]) -> list[Any]:
        return list(tensors)

    def apply(self, optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        optimizer.apply(gradients, variables)

    def replica(self) -> Any:
        return tf.constant(self.rank, tf.int32)

    def close(self) -> None:
        return None

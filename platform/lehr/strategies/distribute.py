"""Strategies on tf.distribute: several devices of one process, and several processes.

Only the replica context and variables of tf.distribute are used: no `fit`, no distributed datasets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from lehr.errors import LaunchError, letter
from lehr.strategies.single import tensors
from lehr.strategies.strategy import Batch, Replicated


class Distributed:
    """Common part: `self._inner` is the tf.distribute strategy."""

    kind: str
    rank = 0
    workers = 1

    def __init__(self, inner: tf.distribute.Strategy, *, local_replicas: int) -> None:
        self._inner = inner
        self.local_replicas = local_replicas
        self.replicas: int = inner.num_replicas_in_sync

    def scope(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = self._inner.scope()
        return scope

    def compile(self, function: Callable[[Batch], Batch], *, name: str) -> Replicated:
        def run(batch: Any) -> Any:
            return self._inner.run(function, args=(batch,))

        run.__name__ = name
        program = tf.function(run, autograph=False)
        first = self.rank * self.local_replicas

        def call(batches: Sequence[Batch]) -> list[Batch]:
            values = self._inner.experimental_distribute_values_from_function(
                lambda context: tensors(batches[context.replica_id_in_sync_group - first])
            )
            results = program(values)
            parts = {key: self._inner.experimental_local_results(value) for key, value in results.items()}
            return [{key: part[i] for key, part in parts.items()} for i in range(self.local_replicas)]

        return call

    def sum(self, tensors: list[Any]) -> list[Any]:
        context = tf.distribute.get_replica_context()
        # An input of the program has no device yet, and the exchange asks for one: identity gives it.
        return list(
            context.all_reduce(tf.distribute.ReduceOp.SUM, [tf.identity(tensor) for tensor in tensors])
        )

    def apply(self, optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        optimizer.apply(gradients, variables)

    def replica(self) -> Any:
        return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)

    def close(self) -> None:
        return None


class Mirrored(Distributed):
    """One worker, several devices: GPUs, or logical CPU devices where there is no GPU."""

    kind = "mirrored"

    def __init__(self, devices: int = 1) -> None:
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        found = len(tf.config.list_logical_devices(kind))
        if found < devices:
            raise LaunchError(
                letter(
                    "strategy.devices_per_worker",
                    f"{devices} devices asked for, {found} {kind} found",
                    do="lower strategy.devices_per_worker, or run where there are more devices",
                )
            )
        names = [f"{kind}:{index}" for index in range(devices)]
        super().__init__(tf.distribute.MirroredStrategy(names), local_replicas=devices)


class MultiWorker(Distributed):
    """Several workers, each with one or more devices. TF_CONFIG says who is who."""

    kind = "multiworker"

    def __init__(self, devices: int = 1) -> None:
        task = json.loads(os.environ.get("TF_CONFIG", "{}"))
        if "cluster" not in task:
            raise LaunchError(
                letter(
                    "TF_CONFIG",
                    "not set, so the workers cannot find each other",
                    do="start the job with `lehr run`, which sets it",
                )
            )
        self.rank = int(task["task"]["index"])
        self.workers = len(task["cluster"]["worker"])
        # Ring collectives for float32; NCCL where every worker has GPUs.
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CommunicationImplementation.AUTO
        )
        inner = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        super().__init__(inner, local_replicas=inner.num_replicas_in_sync // self.workers)
        if self.local_replicas != devices:
            raise LaunchError(
                letter(
                    "strategy.devices_per_worker",
                    f"{devices} devices asked for, {self.local_replicas} found",
                    do="make it the number of devices that each worker has",
                )
            )

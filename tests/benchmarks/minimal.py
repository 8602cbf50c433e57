"""What one would write by hand: a deep energy-based model on two Horovod workers through Ray Train, one step.

It knows nothing of lehr. `startup.py` compares the time to its first step with that of `lehr run`, and
`submit.py`, as a job on a cluster that is there already, with that of `lehr submit`: the same model, data,
batch, chain and optimizer. It has no checkpoints, no metrics, no checks and nothing to resume.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any

os.environ["RAY_TRAIN_V2_ENABLED"] = "1"

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

WORKERS, BATCH, CHAIN = 2, 128, 60


def adopt(environment: dict[str, str]) -> None:
    os.environ.update(environment)


class Gloo(Backend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
        from horovod.runner.http.http_server import RendezvousServer

        self.server = RendezvousServer()
        port = self.server.start()
        slots = get_host_assignments([HostInfo("localhost", WORKERS)], WORKERS, WORKERS)
        self.server.init(slots)
        common = {
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
            "HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo", "HOROVOD_GLOO_IFACE": "lo",
        }  # fmt: skip
        names = ("rank", "size", "local_rank", "local_size", "cross_rank", "cross_size", "hostname")
        for slot in slots:
            mine = {f"HOROVOD_{name.upper()}": str(getattr(slot, name)) for name in names}
            worker_group.execute_single(slot.rank, adopt, common | mine)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        self.server.stop()


@dataclass
class GlooConfig(BackendConfig):
    @property
    def backend_cls(self) -> type[Gloo]:
        return Gloo


def train() -> float:
    """One step; the time at which it was done, in seconds since 1970."""
    import horovod.tensorflow as hvd
    import keras
    import tensorflow as tf
    from sklearn.datasets import load_digits

    tf.config.threading.set_intra_op_parallelism_threads(1)
    hvd.init()
    images = load_digits().images[:1500, :, :, None].astype("float32") / 16 * 2 - 1
    images = tf.image.resize(images, (32, 32))
    swish = keras.activations.silu
    model = keras.Sequential([
        keras.layers.Input((32, 32, 1)),
        keras.layers.Conv2D(16, 5, 2, "same", activation=swish),
        keras.layers.Conv2D(32, 3, 2, "same", activation=swish),
        keras.layers.Conv2D(64, 3, 2, "same", activation=swish),
        keras.layers.Conv2D(64, 3, 2, "same", activation=swish),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation=swish),
        keras.layers.Dense(1),
    ])  # fmt: skip
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)
    variables = [v.value for v in model.trainable_variables]
    hvd.broadcast_variables(variables, root_rank=0)

    def move(chain: tf.Tensor) -> tf.Tensor:
        chain = tf.clip_by_value(chain + tf.random.normal(tf.shape(chain), stddev=0.005), -1.0, 1.0)
        with tf.GradientTape() as tape:
            tape.watch(chain)
            score = model(chain)
        return tf.clip_by_value(
            chain + 10.0 * tf.clip_by_value(tape.gradient(score, chain), -0.03, 0.03), -1.0, 1.0
        )

    @tf.function
    def step(real: tf.Tensor, chain: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(CHAIN):
            chain = move(chain)
        with tf.GradientTape() as tape:
            real_score, fake_score = tf.split(model(tf.concat([real, chain], 0)), 2)
            divergence = tf.reduce_mean(fake_score) - tf.reduce_mean(real_score)
            loss = divergence + 0.1 * tf.reduce_mean(real_score**2 + fake_score**2)
        gradients = hvd.grouped_allreduce(tape.gradient(loss, variables), op=hvd.Average)
        optimizer.apply(gradients, model.trainable_variables)
        return chain

    share = BATCH // WORKERS
    first = hvd.rank() * share
    step(images[first : first + share], tf.random.uniform((share, 32, 32, 1), -1.0, 1.0)).numpy()
    return time.time()


if __name__ == "__main__":
    # A job on a cluster finds its address there; else there is a cluster to start.
    own = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": WORKERS + 1, "include_dashboard": False}
    ray.init(log_to_driver=False, **own)
    with tempfile.TemporaryDirectory() as folder:
        trainer = DataParallelTrainer(
            train,
            backend_config=GlooConfig(),
            scaling_config=ScalingConfig(num_workers=WORKERS),
            run_config=RunConfig(storage_path=folder),
        )
        print(trainer.fit().return_value)

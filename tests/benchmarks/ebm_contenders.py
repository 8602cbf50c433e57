"""Four programs of the same training step: the book's network, batch 128, 60 Langevin steps, Adam.

Each is a function that imports what it needs, sets its threads and returns `step()`. As a script it is a
process that answers on its standard output: `ready` when warm, then seconds a step for each number of steps
that it reads.

    python tests/benchmarks/ebm_contenders.py lehr 2
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Step = Callable[[], Any]

BATCH, SIDE, STEPS, SIZE, FRESH = 128, 32, 60, 8192, 0.05
STEP_SIZE, NOISE, CLIP, ALPHA, RATE = 10.0, 0.005, 0.03, 0.1, 1e-4
PARAMETERS = 76_993


def real_images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (BATCH, SIDE, SIDE, 1)).astype(np.float32)


def lehr(threads: int) -> Step:
    """The platform's own parts: model, objective, buffer; threads as a worker sets them."""
    import keras
    import tensorflow as tf

    from lehr.models.ebm import EnergyModel
    from lehr.objectives.contrastive import Contrastive
    from lehr.strategies import devices

    devices.configure(threads=threads, devices=1, side_by_side=True)
    buffer = SimpleNamespace(size=SIZE, fresh=FRESH)
    sampler = SimpleNamespace(
        steps=STEPS, step_size=STEP_SIZE, noise=NOISE, gradient_clip=CLIP, buffer=buffer
    )
    strategy = SimpleNamespace(cpus_per_worker=threads, devices_per_worker=1)
    spec = SimpleNamespace(sampler=sampler, train=SimpleNamespace(seed=0), strategy=strategy)
    model = EnergyModel(SimpleNamespace(filters=(16, 32, 64, 64), hidden=64), (SIDE, SIDE, 1))
    assert model.count_params() == PARAMETERS
    objective = Contrastive(SimpleNamespace(regulariser=ALPHA, data_noise=NOISE), spec)
    memory = objective.memory(shape=(SIDE, SIDE, 1), slots=BATCH, first_slot=0, global_slots=BATCH)
    assert memory is not None
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_variables)
    variables = [weight.value for weight in model.trainable_variables]

    @tf.function
    def update(batch: dict[str, Any]) -> tuple[Any, Any]:
        batch = objective.prepare(model, batch)
        with tf.GradientTape() as tape:
            loss, _ = objective.loss(model, batch)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), model.trainable_variables, strict=True))
        return loss, batch["chain"]

    whole = {"weight": np.ones(BATCH, np.float32), "first": np.int64(0)}
    whole |= {"count": np.float32(BATCH), "slots": np.float32(BATCH), "input": real_images()}
    done = iter(range(1 << 40))

    def step() -> float:
        number = next(done)
        batch = whole | {"step": np.int64(number)} | memory.draw(number)
        loss, chain = update({name: tf.constant(value) for name, value in batch.items()})
        memory.keep(number, {"chain": chain.numpy()})
        return float(loss)

    return step


def _textbook(wrap: Callable[[Any], Any]) -> Step:
    """As the book writes it, with the early return put right: an eager loop, a Python list as the buffer."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    parts = [keras.Input((SIDE, SIDE, 1)), layers.Conv2D(16, 5, 2, "same", activation="swish")]
    parts += [layers.Conv2D(filters, 3, 2, "same", activation="swish") for filters in (32, 64, 64)]
    parts += [layers.Flatten(), layers.Dense(64, activation="swish"), layers.Dense(1)]
    model = keras.Sequential(parts)
    assert model.count_params() == PARAMETERS
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_variables)
    shape = (1, SIDE, SIDE, 1)
    state = SimpleNamespace(buffer=[tf.random.uniform(shape) * 2 - 1 for _ in range(BATCH)])
    real = tf.constant(real_images())

    @wrap
    def sample(images: Any) -> Any:
        for _ in tf.range(STEPS) if wrap is tf.function else range(STEPS):
            images += tf.random.normal(images.shape, 0, NOISE)
            images = tf.clip_by_value(images, -1.0, 1.0)
            with tf.GradientTape() as tape:
                tape.watch(images)
                score = model(images)
            gradient = tf.clip_by_value(tape.gradient(score, images), -CLIP, CLIP)
            images = tf.clip_by_value(images + STEP_SIZE * gradient, -1.0, 1.0)
        return images

    @wrap
    def learn(fake: Any) -> Any:
        noisy = tf.clip_by_value(real + tf.random.normal(real.shape, 0, NOISE), -1.0, 1.0)
        with tf.GradientTape() as tape:
            scores = model(tf.concat([noisy, fake], axis=0), training=True)
            of_real, of_fake = tf.split(scores, 2, axis=0)
            divergence = tf.reduce_mean(of_fake) - tf.reduce_mean(of_real)
            loss = divergence + ALPHA * tf.reduce_mean(of_real**2 + of_fake**2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    def step() -> float:
        fresh = int(np.random.binomial(BATCH, FRESH))
        start = [tf.random.uniform((fresh, SIDE, SIDE, 1)) * 2 - 1]
        start += random.choices(state.buffer, k=BATCH - fresh)
        ends = sample(tf.concat(start, axis=0))
        state.buffer = (tf.split(ends, BATCH, axis=0) + state.buffer)[:SIZE]
        return float(learn(ends))

    return step


def eager(threads: int) -> Step:
    """The textbook's code, eager."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return _textbook(lambda function: function)


def graph(threads: int) -> Step:
    """The textbook's code with tf.function around it."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return _textbook(tf.function)


def pytorch(threads: int) -> Step:
    """The same algorithm in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    widths = [(1, 16, 5), (16, 32, 3), (32, 64, 3), (64, 64, 3)]
    parts = [part for i, o, k in widths for part in (nn.Conv2d(i, o, k, stride=2, padding=k // 2), nn.SiLU())]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(256, 64), nn.SiLU(), nn.Linear(64, 1))
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    real = torch.from_numpy(real_images()).permute(0, 3, 1, 2).contiguous()
    shape = (SIZE, 1, SIDE, SIDE)
    state = SimpleNamespace(buffer=torch.zeros(shape), filled=BATCH, place=0)
    state.buffer[:BATCH] = torch.rand(BATCH, *shape[1:]) * 2 - 1

    def sample(images: Any) -> Any:
        model.requires_grad_(False)  # gradients of the images alone
        for _ in range(STEPS):
            images = (images + NOISE * torch.randn_like(images)).clamp_(-1, 1).requires_grad_(True)
            (gradient,) = torch.autograd.grad(model(images).sum(), images)
            images = images.detach().add_(gradient.clamp_(-CLIP, CLIP), alpha=STEP_SIZE).clamp_(-1, 1)
        model.requires_grad_(True)
        return images

    def start() -> Any:
        images = state.buffer[torch.randint(state.filled, (BATCH,))]
        fresh = torch.rand(BATCH) < FRESH
        images[fresh] = torch.rand(int(fresh.sum()), *shape[1:]) * 2 - 1
        return images

    def keep(images: Any) -> None:
        state.buffer[state.place : state.place + BATCH] = images
        state.place = (state.place + BATCH) % SIZE
        state.filled = min(SIZE, state.filled + BATCH)

    def step() -> float:
        fake = sample(start())
        keep(fake)
        noisy = (real + NOISE * torch.randn_like(real)).clamp_(-1, 1)
        of_real, of_fake = model(torch.cat([noisy, fake])).split(BATCH)
        squares = functional.mse_loss(of_real, torch.zeros_like(of_real)) + (of_fake**2).mean()
        loss = of_fake.mean() - of_real.mean() + ALPHA * squares
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


CONTENDERS: dict[str, Callable[[int], Step]] = {
    "lehr": lehr,
    "pytorch": pytorch,
    "graph": graph,
    "eager": eager,
}


def serve(step: Step) -> None:
    """Warm up, say so, and take turns until the input ends."""
    for _ in range(2):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            step()
        print((time.perf_counter() - begin) / int(line), flush=True)


if __name__ == "__main__":
    serve(CONTENDERS[sys.argv[1]](int(sys.argv[2])))

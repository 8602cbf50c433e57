"""PixelCNN: samples against the textbook's loop and against a compiled pass a pixel, and the training step.

    python tests/benchmarks/pixelcnn.py [--rounds 5] [--threads 2] [--root /path/to/data]

One process, the book's network (128 filters, 5 blocks, 4 levels, 16x16) with the same weights for all; they
take turns. Told are the ratio of the least times, since other work on the machine only adds to a time, and
the median over rounds of the ratio within a round. With `--root`, where Fashion-MNIST is, the bits a pixel of
the per-pixel marginal model are told too: what a trained model is measured against.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lehr.dynamics.raster import Raster
from lehr.models.marginal import bits_per_dimension
from lehr.models.pixelcnn import PixelCNN
from lehr.objectives.likelihood import Likelihood
from lehr.spec import kinds
from lehr.strategies import devices

SIDE, LEVELS, FILTERS, BLOCKS, COUNT, BATCH, RATE = 16, 4, 128, 5, 10, 128, 5e-4
HEAD = "| what | against | ratio | median of rounds | theirs, ms | lehr, ms |\n|---|---|---|---|---|---|"
Program = Callable[[], Any]


class Masked(keras.layers.Layer):
    """A masked convolution as books write it: a plain Keras layer whose kernel is multiplied by a mask."""

    def __init__(self, filters: int, size: int, *, centre: bool) -> None:
        super().__init__()
        self._inner = keras.layers.Conv2D(filters, size, padding="same")
        seen = np.arange(size * size) < size * size // 2 + centre
        self._mask = seen.astype(np.float32).reshape(size, size, 1, 1)

    def build(self, shape: Any) -> None:
        self._inner.build(shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        kernel = self._inner.kernel * self._mask
        return keras.ops.conv(inputs, kernel, padding="same") + self._inner.bias


def plain() -> keras.Model:
    """The book's network of Keras layers, with probabilities out."""
    layers = keras.layers
    inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.ReLU()(Masked(FILTERS, 7, centre=False)(inputs))
    for _ in range(BLOCKS):
        y = layers.Conv2D(FILTERS // 2, 1, activation="relu")(x)
        y = layers.ReLU()(Masked(FILTERS // 2, 3, centre=True)(y))
        x = layers.Add()([x, layers.Conv2D(FILTERS, 1, activation="relu")(y)])
    for _ in range(2):
        x = layers.ReLU()(Masked(FILTERS, 1, centre=True)(x))
    return keras.Model(inputs, layers.Conv2D(LEVELS, 1, activation="softmax")(x))


def same_weights(ours: PixelCNN, theirs: keras.Model) -> None:
    for weight, value in zip(theirs.weights, ours.get_weights(), strict=True):
        weight.assign(value.reshape(weight.shape))


def textbook(model: keras.Model) -> Program:
    """The whole network predicts for every pixel; levels are drawn one image after another."""
    rng = np.random.default_rng(0)

    def draw(pixels: int = SIDE * SIDE) -> np.ndarray:
        images = np.zeros((COUNT, SIDE, SIDE, 1))
        for row, column in list(np.ndindex(SIDE, SIDE))[:pixels]:
            p = model.predict(images, verbose=0)[:, row, column]
            for image, share in enumerate(p.astype(np.float64)):
                images[image, row, column, 0] = rng.choice(LEVELS, p=share / share.sum()) / LEVELS
        return images

    draw(1)

    return draw


def whole_passes(model: PixelCNN) -> Program:
    """One compiled program: the whole network and a draw, for every pixel."""

    @tf.function(autograph=False)
    def program(pixels: Any) -> Any:
        def body(place: Any, images: Any) -> Any:
            row, column = place // SIDE, place % SIDE
            level = tf.random.categorical(model(images)[:, row, column], 1)
            here = tf.one_hot(place, SIDE * SIDE)[tf.newaxis] * tf.cast(level, tf.float32)
            return place + 1, images + tf.reshape(here, [COUNT, SIDE, SIDE, 1])

        start = (0, tf.zeros([COUNT, SIDE, SIDE, 1]))
        return tf.while_loop(lambda place, _: place < pixels, body, start, parallel_iterations=1)[1]

    program(tf.constant(1))
    return lambda: program(tf.constant(SIDE * SIDE)).numpy()


def step_of(model: Any, loss_of: Callable[[Any], Any]) -> Program:
    """A compiled training step on a batch: loss, gradients, Adam."""
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_variables)
    variables = [weight.value for weight in model.trainable_variables]
    rng = np.random.default_rng(0)
    batch = tf.constant(rng.integers(0, LEVELS, (BATCH, SIDE, SIDE, 1)).astype(np.float32))

    @tf.function(autograph=False)
    def update(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(batch)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    update(batch)
    return lambda: update(batch).numpy()


def our_step(model: PixelCNN) -> Program:
    objective = Likelihood(None, None)
    told = {"weight": tf.ones([BATCH]), "count": float(BATCH), "step": 0, "first": 0}
    return step_of(model, lambda batch: objective.loss(model, {"input": batch, **told})[0])


def their_step(model: keras.Model) -> Program:
    loss = keras.losses.SparseCategoricalCrossentropy()
    return step_of(model, lambda batch: loss(batch, model(batch / LEVELS, training=True)))


def race(programs: dict[str, Program], rounds: int) -> dict[str, list[float]]:
    """Seconds of each program in each round; every one is compiled before."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds):
        for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
            begin = time.perf_counter()
            programs[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def row(what: str, against: str, theirs: list[float], ours: list[float]) -> str:
    """Of the README's table."""
    median = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    least = min(theirs) / min(ours)
    times = f"{min(theirs) * 1e3:.0f} | {min(ours) * 1e3:.0f}"
    return f"| {what} | {against} | {least:.1f}x | {median:.1f}x | {times} |"


def marginal(root: str) -> float:
    """Bits a pixel of the per-pixel marginal model on held-out Fashion-MNIST, as the book reduces it."""
    keys = {"kind": "fashion_mnist", "image_size": SIDE, "levels": LEVELS, "root": root}
    node = kinds.FAMILIES["data"]["fashion_mnist"].model_validate(keys)
    train, held_out = (everything(kinds.load(node)(node, split)) for split in ("train", "validation"))
    return bits_per_dimension(train, held_out, levels=LEVELS)


def everything(arrays: Any) -> np.ndarray:
    return np.concatenate([arrays.take(rows)[0] for rows in np.array_split(np.arange(len(arrays)), 20)])


def samples(ours: PixelCNN, theirs: keras.Model, rounds: int) -> None:
    """Print the rows of drawing."""
    plain, compiled = Raster(ours, seed=0), Raster(ours, seed=0, xla=True)
    images, logits = plain.draw(COUNT)
    compiled.draw(COUNT)
    p = theirs.predict(images / LEVELS, verbose=0)
    off = np.abs(p - tf.nn.softmax(logits)).max()
    print(f"largest difference of a probability, scan against textbook: {off:.1e}\n")
    programs = {"lehr": lambda: plain.draw(COUNT), "xla": lambda: compiled.draw(COUNT)}
    seconds = race(programs | {"textbook": textbook(theirs), "passes": whole_passes(ours)}, rounds)
    what = f"PixelCNN, {COUNT} images {SIDE}x{SIDE}"
    print(HEAD)
    print(row(what, "the textbook's loop of 256 predictions", seconds["textbook"], seconds["lehr"]))
    print(row(what, "one compiled full pass a pixel", seconds["passes"], seconds["lehr"]))
    what = f"{what}, `train.compile: on`"
    print(row(what, "the textbook's loop", seconds["textbook"], seconds["xla"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--root", help="where Fashion-MNIST is: also tell the marginal model's bits")
    given = parser.parse_args()
    devices.configure(threads=given.threads, devices=1)
    keras.utils.set_random_seed(0)
    node = SimpleNamespace(filters=FILTERS, blocks=BLOCKS, levels=LEVELS)
    ours, theirs = PixelCNN(node, (SIDE, SIDE, 1)), plain()
    same_weights(ours, theirs)
    samples(ours, theirs, given.rounds)
    steps = race({"lehr": our_step(ours), "plain": their_step(theirs)}, 3 * given.rounds)
    what = f"PixelCNN training step, batch {BATCH}"
    print(row(what, "plain Keras layers with a masked kernel", steps["plain"], steps["lehr"]), flush=True)
    if given.root:
        print(f"\nper-pixel marginal model, held-out Fashion-MNIST: {marginal(given.root):.4f} bits a pixel")


if __name__ == "__main__":
    main()

"""Drawing from the PixelCNN with a mixture output, and its training step.

    python tests/benchmarks/pixelcnn_mixture.py [--rounds 3] [--size 32] [--pixels 16] [--threads 2]

Ours draws 10 images, pixel by pixel, computing what a new pixel changes. Against it stands what
TensorFlow Probability's `PixelCNN.sample` does for every pixel, the whole network over the whole images, but
compiled as one program: `--pixels` of the passes are timed, and their time is multiplied up to all pixels.
Both take turns in one process; times are medians over rounds, and so is the ratio. Weights are random: they
do not change the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from lehr.dynamics.raster import Raster
from lehr.models.pixelcnn_mixture import PixelCNNMixture
from lehr.spec.autoregressive import PixelCNNMixture as Node

IMAGES, BATCH = 10, 128


def whole_passes(model: Any) -> Callable[[Any, int], Any]:
    """From images and a number of pixels to images with so many drawn, each after a whole pass."""
    height, width, channels = model.image_shape

    @tf.function(autograph=False)
    def drawn(images: Any, pixels: Any) -> Any:
        def body(pixel: Any, images: Any) -> tuple[Any, Any]:
            row, column = pixel // width, pixel % width
            parameters = model(images)[:, row, column]
            chances = tf.random.stateless_uniform([IMAGES, 1 + channels], [0, pixel])
            value = model.mixture.draw(parameters, chances)
            place = tf.reshape(tf.one_hot(pixel, height * width), [1, height, width, 1])
            return pixel + 1, images * (1 - place) + value[:, tf.newaxis, tf.newaxis] * place

        return tf.while_loop(lambda pixel, _: pixel < pixels, body, (0, images), parallel_iterations=1)[1]

    return drawn


def training_step(model: Any) -> Callable[[Any], Any]:
    """A step of Adam on one batch, with dropout."""
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(images: Any, number: Any) -> Any:
        with tf.GradientTape() as tape:
            told = model.log_probability(images, training=True, address=(number, tf.constant(0, tf.int64)))
            loss = -tf.reduce_mean(told)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return lambda images: step(images, tf.constant(0, tf.int64)).numpy()


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="height and width of an image")
    parser.add_argument("--pixels", type=int, default=16, help="whole passes that are timed")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(given.threads)
    tf.config.threading.set_inter_op_parallelism_threads(given.threads)
    shape = (given.size, given.size, 1)
    model = PixelCNNMixture(Node(kind="pixelcnn_mixture"), shape)
    raster, passes = Raster(model, seed=0), whole_passes(model)
    empty = tf.zeros([IMAGES, *shape])
    made = seconds(lambda: raster.draw(IMAGES)), seconds(lambda: passes(empty, 1))
    ours, theirs = [], []
    for _ in range(given.rounds):
        ours.append(seconds(lambda: raster.draw(IMAGES)))
        share = seconds(lambda: passes(empty, given.pixels).numpy()) / given.pixels
        theirs.append(share * given.size**2)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"{IMAGES} images {given.size}x{given.size}, {given.threads} threads, {given.rounds} rounds")
    print(f"ours {statistics.median(ours):.2f} s, a whole pass a pixel {statistics.median(theirs):.1f} s")
    print(f"ratio, median of rounds: {ratio:.1f}x")
    print(f"the first call, which compiles: {made[0]:.1f} s and {made[1]:.1f} s")
    step, images = training_step(model), np.random.default_rng(0).integers(0, 256, (BATCH, *shape))
    batch = tf.constant(images, tf.float32)
    step(batch)
    spent = [seconds(lambda: step(batch)) for _ in range(given.rounds)]
    print(f"training step, batch {BATCH}, dropout on: {statistics.median(spent):.2f} s")


if __name__ == "__main__":
    main()

"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998), as in "Dive into Deep Learning", section 7.6."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from lehr.errors import UserError, letter

CLASSES = 10
SMALLEST = 12
"""Pixels below which nothing is left after the second pooling."""


def LeNet(node: Any, shape: tuple[int, ...]) -> keras.Model:
    """Two convolutions of 5x5, each pooled by 2, and three dense layers.

    At 28x28x1 the shapes are 28x28x6, 14x14x6, 10x10x16, 5x5x16, 400, 120, 84, 10, and there are 61,706
    parameters. Weights start uniform as in Glorot and Bengio (2010); biases at 0.

    Args:
        node: `model` of the spec: `activation` "sigmoid", "tanh" or "relu"; `pooling` "average" or "max".
        shape: of one image, [height, width, channels].

    Returns:
        A model from float [batch, *shape] to logits float32 [batch, 10].

    Raises:
        UserError: the images are too small.
    """
    if len(shape) != 3 or min(shape[:2]) < SMALLEST:
        raise UserError(
            letter(
                "data.image_size",
                f"lenet was given inputs of shape {shape}",
                accepted=f"images of {SMALLEST} pixels or more",
                do="set data.image_size: 28",
            )
        )
    pool = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}[node.pooling]
    parts = [
        keras.Input(shape),
        layers.Conv2D(6, 5, padding="same", activation=node.activation, name="conv_1"),
        pool(2, name="pool_1"),
        layers.Conv2D(16, 5, padding="valid", activation=node.activation, name="conv_2"),
        pool(2, name="pool_2"),
        layers.Flatten(name="flatten"),
        layers.Dense(120, activation=node.activation, name="dense_1"),
        layers.Dense(84, activation=node.activation, name="dense_2"),
        # In float32 under every precision: a softmax over float16 loses small probabilities.
        layers.Dense(CLASSES, dtype="float32", name="logits"),
    ]
    return keras.Sequential(parts, name="lenet")

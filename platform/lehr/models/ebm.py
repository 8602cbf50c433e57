"""The deep energy-based model of Foster, "Generative Deep Learning", 2nd ed., chapter 7."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from lehr.errors import UserError, letter
from lehr.models.convolution import strided, strided_input_gradient

Slope = Callable[[Any], tuple[Any, Any]]


class EnergyModel(keras.Model):
    """p(x) = exp(-E(x)) / Z over images, as a network that gives the score f(x) = -E(x): high where likely.

    Strided swish convolutions (the first 5x5, the others 3x3, each halving the image), a dense swish layer
    and one linear unit. At 32x32x1 the shapes are 16x16x16, 8x8x32, 4x4x64, 2x2x64, 64, 1, and there are
    76,993 parameters. Weights start as in Glorot and Bengio (2010), biases at 0.

    Args:
        node: `model` of the spec: `filters` of each convolution, `hidden` units of the dense layer.
        shape: of one image, [height, width, channels].

    Raises:
        UserError: the inputs are no images.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise UserError(
                letter(
                    "model.kind",
                    f"ebm was given inputs of shape {tuple(shape)}",
                    accepted="images, [height, width, channels]",
                    do="choose other data or another model",
                )
            )
        super().__init__(name="ebm")
        self._shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self._convolutions = [
            layers.Conv2D(filters, 3 if number else 5, 2, padding="same", name=f"conv_{number + 1}")
            for number, filters in enumerate(node.filters)
        ]
        self._hidden = layers.Dense(node.hidden, name="dense_1")
        # In float32 under every precision: the objective squares scores and takes small differences of them.
        self._score = layers.Dense(1, dtype="float32", name="score")
        self.build((None, *self._shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for images [batch, height, width, channels]."""
        for layer in self._convolutions:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        self._hidden.build((None, math.prod(size for size in input_shape[1:] if size)))
        self._score.build((None, self._hidden.units))
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        """The score f(x) = -E(x) of images [batch, height, width, channels] in [-1, 1]: float32 [batch]."""
        features = images
        for layer in self._convolutions:
            features = tf.nn.silu(layer(features))
        hidden = tf.nn.silu(self._hidden(layers.Flatten(dtype=features.dtype)(features)))
        return self._score(hidden)[:, 0]

    def energy(self, images: Any) -> Any:
        """E(x) of images [batch, height, width, channels]: float32 [batch]."""
        return -self(images, training=False)

    def slope(self) -> Slope:
        """The energy and its gradient with respect to the images, by hand: for chains.

        Call it outside a chain's loop; it brings the kernels into their best form once. On a GPU the
        library's own gradients are as good, and automatic differentiation is used.

        Returns:
            From images float32 [batch, height, width, channels] to E [batch] and dE/dx, shaped as the images,
            both float32; equal to automatic differentiation to rounding.
        """
        if tf.config.list_physical_devices("GPU"):
            return self._slope_by_tape
        return self._slope_by_hand()

    def _slope_by_tape(self, images: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            energy = self.energy(images)
        return energy, tape.gradient(energy, images)

    def _slope_by_hand(self) -> Slope:
        kernels, biases, returns = self._prepared()
        dense, offset = _weights(self._hidden)
        score, constant = _weights(self._score)
        # The gradient leaves the last layer in the network's precision: float16 is kept off its lower end.
        scale = 2.0**10 if dense.dtype == tf.float16 else 1.0
        seed = tf.cast(-scale * score[:, 0], dense.dtype)

        def slope(images: Any) -> tuple[Any, Any]:
            features, bends = tf.cast(images, dense.dtype), []
            for kernel, bias in zip(kernels, biases, strict=True):
                features, bend = _swish(strided(features, kernel, bias))
                bends.append(bend)
            hidden, bend = _swish(tf.reshape(features, [-1, dense.shape[0]]) @ dense + offset)
            energy = -(tf.cast(hidden, tf.float32) @ score + constant)[:, 0]
            gradient = tf.reshape(tf.matmul(bend * seed, dense, transpose_b=True), tf.shape(features))
            for bend, back in zip(reversed(bends), reversed(returns), strict=True):
                gradient = back(gradient * bend)
            return energy, tf.cast(gradient, tf.float32) / scale

        return slope

    def _prepared(self) -> tuple[list[Any], list[Any], list[Callable[[Any], Any]]]:
        """Of each convolution: its kernel, its bias, and its input gradient."""
        kernels, biases, returns = [], [], []
        shape = self._shape
        for layer in self._convolutions:
            kernel, bias = _weights(layer)
            kernels.append(kernel)
            biases.append(bias)
            returns.append(strided_input_gradient(kernel, shape))
            shape = layer.compute_output_shape((None, *shape))[1:]
        return kernels, biases, returns


def _weights(layer: Any) -> tuple[Any, Any]:
    """Kernel and bias in the layer's compute precision."""
    kernel, bias = (tf.convert_to_tensor(weight.value) for weight in (layer.kernel, layer.bias))
    return tf.cast(kernel, layer.compute_dtype), tf.cast(bias, layer.compute_dtype)


def _swish(inputs: Any) -> tuple[Any, Any]:
    """x sigmoid(x) (Ramachandran et al. 2017) and its derivative, from one sigmoid: s + x s (1 - s)."""
    sigmoid = tf.sigmoid(inputs)
    return inputs * sigmoid, sigmoid + tf.raw_ops.SigmoidGrad(y=sigmoid, dy=inputs)

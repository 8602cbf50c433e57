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

    Strided swish convolutions (the first 5x5, the others 3x3, each halving the image), dense swish layers
    and one linear unit. At 32x32x1 the book's shapes are 16x16x16, 8x8x32, 4x4x64, 2x2x64, 64, 1, and there
    are 76,993 parameters. Weights start as in Glorot and Bengio (2010), biases at 0. Without convolutions
    inputs may also be points, lists of numbers.

    Args:
        node: `model` of the spec: `filters` of each convolution, `hidden` units of each dense layer (a
            number: of the only one).
        shape: of one input, [height, width, channels], or [numbers] of a point.

    Raises:
        UserError: the inputs are no images, and there are convolutions.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 and (node.filters or len(shape) != 1):
            raise UserError(
                letter(
                    "model.kind",
                    f"ebm was given inputs of shape {tuple(shape)}",
                    accepted="images, [height, width, channels]; points, [numbers], with model.filters: []",
                    do="choose other data or another model",
                )
            )
        super().__init__(name="ebm")
        self._shape = tuple(int(size) for size in shape)
        self._convolutions = [
            layers.Conv2D(filters, 3 if number else 5, 2, padding="same", name=f"conv_{number + 1}")
            for number, filters in enumerate(node.filters)
        ]
        hidden = (node.hidden,) if isinstance(node.hidden, int) else node.hidden
        self._dense = [
            layers.Dense(units, name=f"dense_{number}") for number, units in enumerate(hidden, start=1)
        ]
        # In float32 under every precision: the objective squares scores and takes small differences of them.
        self._score = layers.Dense(1, dtype="float32", name="score")
        self.build((None, *self._shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs [batch, ...]."""
        for layer in self._convolutions:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        units = math.prod(size for size in input_shape[1:] if size)
        for layer in self._dense:
            layer.build((None, units))
            units = layer.units
        self._score.build((None, units))
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        """The score f(x) = -E(x) of images [batch, height, width, channels] in [-1, 1]: float32 [batch]."""
        features = images
        for layer in self._convolutions:
            features = tf.nn.silu(layer(features))
        hidden = layers.Flatten(dtype=features.dtype)(features)
        for layer in self._dense:
            hidden = tf.nn.silu(layer(hidden))
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
        dense = [_weights(layer) for layer in self._dense]
        score, constant = _weights(self._score)
        small = dense[0][0].dtype
        # The gradient leaves the last layer in the network's precision: float16 is kept off its lower end.
        scale = 2.0**10 if small == tf.float16 else 1.0
        seed = tf.cast(-scale * score[:, 0], small)

        def slope(images: Any) -> tuple[Any, Any]:
            features, bends = tf.cast(images, small), []
            for kernel, bias in zip(kernels, biases, strict=True):
                features, bend = _swish(strided(features, kernel, bias))
                bends.append(bend)
            hidden, turns = tf.reshape(features, [-1, dense[0][0].shape[0]]), []
            for kernel, bias in dense:
                hidden, turn = _swish(hidden @ kernel + bias)
                turns.append(turn)
            energy = -(tf.cast(hidden, tf.float32) @ score + constant)[:, 0]
            gradient = seed
            for turn, (kernel, _) in zip(reversed(turns), reversed(dense), strict=True):
                gradient = tf.matmul(turn * gradient, kernel, transpose_b=True)
            gradient = tf.reshape(gradient, tf.shape(features))
            for bend, back in zip(reversed(bends), reversed(returns), strict=True):
                gradient = back(gradient * bend)
            return energy, tf.cast(gradient, tf.float32) / scale

        return slope

    def _prepared(self) -> tuple[list[Any], list[Any], list[Callable[[Any], Any]]]:
        """Of each convolution: its kernel, its bias, and its input gradient."""
        kernels, biases, returns = [], [], []
        shape: Any = self._shape
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

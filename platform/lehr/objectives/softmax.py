"""A softmax over very many classes, a slice of rows at a time.

The logits of 32 texts of 200 words over 10,000 words are 256 MB, and their gradient as much again. Here rows
that do not count are left out before the product, and the others go through it in slices that stay in the
cache: the gradients of a slice are made right where its logits are, and only sums over slices remain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

SLICE = 512
"""Rows of a slice."""


class Head(NamedTuple):
    """The softmax: kernel float32 [width, classes] and bias float32 [classes], tensors both. Products are of
    `dtype`, sums and logits float32."""

    kernel: Any
    bias: Any
    dtype: str


def cross_entropy(states: Any, head: Head, target: Any, counted: Any, *, packed: bool, slope: bool) -> Any:
    """The sum over counted rows of -log softmax(states kernel + bias)[target]: float32 scalar.

    The slices are summed in order, so the same rows give the same bits.

    Args:
        states: float32 [rows, width].
        head: what makes logits of them.
        target: int [rows].
        counted: bool [rows].
        packed: leave out rows that do not count. Shapes then depend on the data, which XLA cannot have.
        slope: whether a gradient will be asked for.
    """

    def told(states: Any, kernel: Any, bias: Any) -> Any:
        place, real = _places(counted) if packed else (tf.range(tf.shape(states)[0]), counted)
        picked = _slices(tf.gather(states, place)), _slices(tf.gather(target, place)), _slices(real)
        total, *slopes, of_picked = _sums(Head(kernel, bias, head.dtype), picked, slope=slope)

        def gradient(upstream: Any) -> tuple[Any, ...]:
            of_states = _spread(of_picked, counted) if packed else of_picked[: tf.shape(states)[0]]
            return tuple(upstream * one for one in (of_states, *slopes))

        return (total, gradient) if slope else total

    return (tf.custom_gradient(told) if slope else told)(states, head.kernel, head.bias)


def _places(counted: Any) -> tuple[Any, Any]:
    """Rows that count, int64 [picked], and that they do."""
    place = tf.where(counted)[:, 0]
    return place, tf.ones_like(place, tf.bool)


def _spread(of_picked: Any, counted: Any) -> Any:
    """Picked rows back where they came from, zeros elsewhere."""
    number = tf.maximum(tf.cumsum(tf.cast(counted, tf.int32)) - 1, 0)
    return tf.where(counted[:, tf.newaxis], tf.gather(of_picked, number), 0.0)


def _slices(values: Any) -> Any:
    """[rows, ...] as [slices, SLICE, ...], filled up with zeros; one slice at least."""
    rows, rest = tf.shape(values)[0], values.shape[1:]
    slices = tf.maximum((rows + SLICE - 1) // SLICE, 1)
    padded = tf.pad(values, [[0, slices * SLICE - rows]] + [[0, 0]] * len(rest))
    return tf.reshape(padded, [slices, SLICE, *rest])


def _sums(head: Head, picked: tuple[Any, Any, Any], *, slope: bool) -> list[Any]:
    """Over slices: the loss and, with `slope`, its gradients by kernel, bias and states [rows, width]."""
    slices, narrow = tf.shape(picked[0])[0], tf.cast(head.kernel, head.dtype)
    array = tf.TensorArray(tf.float32, size=slices, element_shape=picked[0].shape[1:])
    zeros = [tf.zeros(head.kernel.shape), tf.zeros(head.bias.shape), array] if slope else []

    def body(number: Any, total: Any, *slopes: Any) -> tuple[Any, ...]:
        states, target, real = (part[number] for part in picked)
        states = tf.cast(states, head.dtype)
        logits = tf.cast(tf.matmul(states, narrow), tf.float32) + head.bias
        # The gradient by the logits comes with the loss: both need the same exponentials.
        losses, of_logits = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=target)
        total += tf.reduce_sum(tf.where(real, losses, 0.0))
        if not slope:
            return number + 1, total
        of_logits = tf.where(real[:, tf.newaxis], of_logits, 0.0)
        low = tf.cast(of_logits, head.dtype)
        kernel, bias, array = slopes
        kernel += tf.cast(tf.matmul(states, low, transpose_a=True), tf.float32)
        bias += tf.reduce_sum(of_logits, axis=0)
        array = array.write(number, tf.cast(tf.matmul(low, narrow, transpose_b=True), tf.float32))
        return number + 1, total, kernel, bias, array

    _, total, *slopes = tf.while_loop(
        lambda number, *_: number < slices, body, (0, tf.constant(0.0), *zeros), parallel_iterations=1,
        maximum_iterations=slices,
    )  # fmt: skip
    if not slope:
        return [total, None]
    return [total, *slopes[:2], tf.reshape(slopes[2].stack(), [-1, picked[0].shape[2]])]

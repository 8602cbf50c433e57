"""Masked convolutions: what they see, and that masked weights are nothing to anybody."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lehr.models.masked import Kind, MaskedConvolution, mask

CASES: list[tuple[int, Kind, int]] = [
    (7, "A", 24), (7, "B", 25), (3, "A", 4), (3, "B", 5), (1, "B", 1), (1, "A", 0),
]  # fmt: skip
SEEN = [case for case in CASES if case[2]]


def layer(size: int, kind: Kind, *, inputs: int = 2, filters: int = 3) -> MaskedConvolution:
    """Built, with biases that are not 0."""
    keras.utils.set_random_seed(1)
    made = MaskedConvolution(filters, size, kind)
    made.build((None, 6, 5, inputs))
    made.bias.assign(np.arange(filters) + 0.5)
    return made


def images(rows: int = 4, channels: int = 2) -> Any:
    return tf.random.stateless_normal((rows, 6, 5, channels), (1, 2))


@pytest.mark.parametrize(("size", "kind", "taps"), CASES)
def test_a_mask_lets_through_what_comes_before(size: int, kind: Kind, taps: int) -> None:
    flat = mask(size, kind).ravel()
    assert flat[:taps].all()
    assert not flat[taps:].any()
    assert len(flat) == size * size


def test_an_even_kernel_has_no_centre() -> None:
    with pytest.raises(ValueError, match="4 is even"):
        mask(4, "A")


@pytest.mark.parametrize(("size", "kind", "taps"), SEEN)
def test_it_is_a_convolution_with_the_masked_kernel(size: int, kind: Kind, taps: int) -> None:
    made = layer(size, kind)
    made.kernel.assign(np.random.default_rng(1).normal(size=made.kernel.shape))  # masked weights too
    plain = keras.layers.Conv2D(3, size, padding="same")
    plain.build((None, 6, 5, 2))
    plain.set_weights([made.kernel.numpy() * mask(size, kind), made.bias.numpy()])
    np.testing.assert_allclose(made(images()), plain(images()), atol=1e-5)


@pytest.mark.parametrize(("size", "kind", "taps"), SEEN)
def test_masked_weights_have_no_gradient_at_all(size: int, kind: Kind, taps: int) -> None:
    made, hidden = layer(size, kind), np.broadcast_to(mask(size, kind) == 0, (size, size, 2, 3))
    made.kernel.assign(np.ones(made.kernel.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made(images()) ** 2)
    gradient = tape.gradient(loss, made.kernel.value).numpy()
    assert (gradient[hidden] == 0.0).all()
    assert (gradient[~hidden] != 0.0).all()
    assert (made.kernel.numpy() == 1.0).all(), "the forward pass wrote to its weights"


@pytest.mark.parametrize(("size", "kind", "taps"), SEEN)
def test_masked_weights_start_at_zero_and_the_others_as_if_there_were_no_others(
    size: int, kind: Kind, taps: int
) -> None:
    made = layer(size, kind, inputs=64, filters=64)
    seen = np.broadcast_to(mask(size, kind) == 1, made.kernel.shape)
    kernel = made.kernel.numpy()
    assert not kernel[~seen].any()
    bound = np.sqrt(6 / (taps * 64 + taps * 64))  # Glorot and Bengio 2010, equation 16
    assert np.abs(kernel[seen]).max() == pytest.approx(bound, rel=0.01)


def test_name_and_precision_are_options_of_the_layer() -> None:
    made = MaskedConvolution(3, 3, "B", name="mine", dtype="mixed_bfloat16")
    assert made.name == "mine"
    assert made(images()).dtype == tf.bfloat16
    assert made.kernel.dtype == "float32"

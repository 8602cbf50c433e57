"""The energy-based model: its layers, and its gradient by hand against automatic differentiation."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import UserError
from lehr.models.convolution import strided, strided_input_gradient
from lehr.models.ebm import EnergyModel

BOOK = SimpleNamespace(filters=(16, 32, 64, 64), hidden=64)


def network(filters: tuple[int, ...], shape: tuple[int, ...]) -> EnergyModel:
    """With biases that are not 0, so that forgetting one shows."""
    tf.random.set_seed(1)
    model = EnergyModel(SimpleNamespace(filters=filters, hidden=16), shape)
    for weight in model.trainable_variables:
        if "bias" in weight.path:
            weight.assign(tf.random.normal(weight.shape) * 0.3)
    return model


def images(rows: int, shape: tuple[int, ...]) -> Any:
    return tf.random.stateless_uniform((rows, *shape), (1, 2), -1.0, 1.0)


@pytest.fixture
def policy() -> Iterator[Any]:
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def test_the_book_s_network_has_the_book_s_layers() -> None:
    model = EnergyModel(BOOK, (32, 32, 1))
    assert model.count_params() == 76_993
    shapes = {weight.path.removeprefix("ebm/"): tuple(weight.shape) for weight in model.trainable_variables}
    assert shapes == {
        "conv_1/kernel": (5, 5, 1, 16), "conv_1/bias": (16,),
        "conv_2/kernel": (3, 3, 16, 32), "conv_2/bias": (32,),
        "conv_3/kernel": (3, 3, 32, 64), "conv_3/bias": (64,),
        "conv_4/kernel": (3, 3, 64, 64), "conv_4/bias": (64,),
        "dense_1/kernel": (256, 64), "dense_1/bias": (64,),
        "score/kernel": (64, 1), "score/bias": (1,),
    }  # fmt: skip


def test_the_score_is_that_of_plain_keras_layers() -> None:
    layers = keras.layers
    plain = keras.Sequential(
        [keras.Input((32, 32, 1)), layers.Conv2D(16, 5, 2, "same", activation="swish")]
        + [layers.Conv2D(n, 3, 2, "same", activation="swish") for n in (32, 64, 64)]
        + [layers.Flatten(), layers.Dense(64, activation="swish"), layers.Dense(1)]
    )
    model = EnergyModel(BOOK, (32, 32, 1))
    plain.set_weights(model.get_weights())
    x = images(5, (32, 32, 1))
    assert np.allclose(model(x), plain(x)[:, 0], atol=1e-6)
    assert np.array_equal(model.energy(x), -model(x))


SHAPES = [
    ((16, 32, 64, 64), (32, 32, 1)),
    ((16, 32, 64), (16, 16, 1)),
    ((16, 32, 64, 64), (28, 28, 1)),
    ((8, 8), (32, 32, 3)),
    ((8, 8, 8), (30, 18, 2)),
    ((4, 4), (9, 11, 1)),
    ((4,), (8, 8, 4)),
]


@pytest.mark.parametrize(("filters", "shape"), SHAPES)
def test_the_slope_by_hand_is_that_of_automatic_differentiation(
    filters: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    model = network(filters, shape)
    x = images(5, shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        energy = -model(x)
    gradient = tape.gradient(energy, x)
    by_hand = model._slope_by_hand()(x)
    assert np.allclose(by_hand[0], energy, rtol=1e-6, atol=1e-6)
    assert np.abs(by_hand[1] - gradient).max() < 2e-6 * np.abs(gradient).max()
    by_tape = model._slope_by_tape(x)
    assert np.array_equal(by_tape[1], gradient)


@settings(max_examples=40)
@given(st.data())
def test_the_input_gradient_of_any_convolution(data: st.DataObject) -> None:
    taps = data.draw(st.sampled_from([1, 2, 3, 4, 5, 7]))
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 24))
    channels, filters = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    kernel = tf.random.stateless_normal((taps, taps, channels, filters), (1, taps))
    x = tf.random.stateless_normal((2, height, width, channels), (2, taps))
    with tf.GradientTape() as tape:
        tape.watch(x)
        made = strided(x, kernel, tf.zeros([filters]))
    upstream = tf.random.stateless_normal(made.shape, (3, taps))
    expected = tape.gradient(made, x, upstream)
    got = strided_input_gradient(kernel, (height, width, channels))(upstream)
    assert np.allclose(got, expected, atol=1e-5 * taps**2)


@pytest.mark.parametrize("taps", [3, 4, 5, 7])
@pytest.mark.parametrize(("height", "width", "channels"), [(4, 4, 1), (4, 4, 2), (12, 8, 1)])
def test_the_input_gradient_of_a_single_filter(taps: int, height: int, width: int, channels: int) -> None:
    kernel = tf.random.stateless_normal((taps, taps, channels, 1), (1, taps))
    x = tf.random.stateless_normal((2, height, width, channels), (2, taps))
    with tf.GradientTape() as tape:
        tape.watch(x)
        made = strided(x, kernel, tf.zeros([1]))
    upstream = tf.random.stateless_normal(made.shape, (3, taps))
    got = strided_input_gradient(kernel, (height, width, channels))(upstream)
    assert np.allclose(got, tape.gradient(made, x, upstream), atol=1e-5 * taps**2)


def test_a_batch_whose_size_is_not_known_when_traced() -> None:
    model = network((4, 8), (16, 16, 1))
    program = tf.function(lambda x: model.slope()(x), input_signature=[tf.TensorSpec([None, 16, 16, 1])])
    x = images(3, (16, 16, 1))
    assert np.allclose(program(x)[1], model.slope()(x)[1], atol=1e-7)


@pytest.mark.parametrize(("precision", "tolerance"), [("mixed_bfloat16", 0.03), ("mixed_float16", 0.004)])
def test_mixed_precision_computes_small_and_answers_in_float32(
    policy: Any, precision: str, tolerance: float
) -> None:
    exact = network((16, 32), (16, 16, 1))
    policy(precision)
    model = network((16, 32), (16, 16, 1))
    model.set_weights(exact.get_weights())
    x = images(4, (16, 16, 1))
    energy, gradient = model._slope_by_hand()(x)
    reference = exact._slope_by_hand()(x)
    assert {weight.dtype for weight in model.trainable_variables} == {"float32"}
    assert model(x).dtype == energy.dtype == gradient.dtype == tf.float32
    assert 0 < np.abs(gradient - reference[1]).max() < tolerance * np.abs(reference[1]).max()
    assert 0 < np.abs(energy - reference[0]).max() < tolerance * max(1.0, np.abs(reference[0]).max())


def test_small_gradients_survive_float16(policy: Any) -> None:
    """At 1e-7 float16 is down to a bit or two."""
    exact = network((16, 32), (16, 16, 1))
    exact._score.kernel.assign(exact._score.kernel * 1e-5)
    policy("mixed_float16")
    model = network((16, 32), (16, 16, 1))
    model.set_weights(exact.get_weights())
    x = images(4, (16, 16, 1))
    reference = exact._slope_by_hand()(x)[1]
    assert np.abs(reference).max() < 1e-6
    assert np.abs(model._slope_by_hand()(x)[1] - reference).max() < 0.01 * np.abs(reference).max()


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"(?s)ebm was given inputs of shape \(784,\).*accepted: images"):
        EnergyModel(BOOK, (784,))

"""Recurrent language models, held to Keras' layers, and to formulas written out in NumPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lehr.errors import UserError
from lehr.models.cells import GRU, LSTM
from lehr.models.recurrent import Recurrent
from lehr.spec.language import GatedRecurrentUnit, LongShortTermMemory

RNG = np.random.default_rng(3)
SHAPE = (7,)
IDS = RNG.integers(1, 20, (3, 7)).astype(np.int32)
IDS[1, 4:] = 0


def node(kind: str, **keys: Any) -> Any:
    row = LongShortTermMemory if kind == "lstm" else GatedRecurrentUnit
    return row.model_validate({"kind": kind, "vocabulary": 20, "embedding": 5, "units": (6,)} | keys)


def model(kind: str, **keys: Any) -> Recurrent:
    """With weights of size one, biases too: each of them matters."""
    made = Recurrent(node(kind, **keys), SHAPE)
    for variable in made.variables:
        variable.assign(RNG.normal(size=variable.shape).astype(np.float32))
    return made


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_call_in_mixed_precision(kind: str, bidirectional: bool) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        told = Recurrent(node(kind, bidirectional=bidirectional), SHAPE)(IDS)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(np.asarray(told, np.float32)).all()


def of_keras(kind: str, units: int) -> keras.layers.Layer:
    if kind == "lstm":
        return keras.layers.LSTM(units, return_sequences=True, use_cudnn=False)
    return keras.layers.GRU(units, return_sequences=True, reset_after=False, use_cudnn=False)


def weights(made: Recurrent, layer: str) -> list[np.ndarray]:
    return [v.numpy() for v in made.variables if v.path.split("/")[-2] == layer]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize(
    ("kind", "units", "count"),
    [("lstm", (128,), 2_407_248), ("lstm", (128, 128), 2_538_832), ("gru", (128,), 2_377_936)],
)
def test_parameters_of_the_book(kind: str, units: tuple[int, ...], count: int) -> None:
    """Tables 5-1 and 5-2; the GRU's with one bias a gate."""
    book = node(kind, vocabulary=10_000, embedding=100, units=units)
    assert book.parameters((200,)) == Recurrent(book, (200,)).count_params() == count


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_row_counts_an_encoder_too(kind: str) -> None:
    encoder = node(kind, units=(6, 4), bidirectional=True)
    assert encoder.parameters(SHAPE) == Recurrent(encoder, SHAPE).count_params()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_layers_and_their_gradients_are_those_of_keras(kind: str) -> None:
    """Two layers: the second reads the states of the first, the first the embedding."""
    made = model(kind, units=(6, 4))
    table = tf.Variable(weights(made, "embedding")[0])
    layers = [of_keras(kind, units) for units in (6, 4)]
    upstream = RNG.normal(size=(3, 7, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        ours = made.states(tf.constant(IDS))
        loss = tf.reduce_sum(ours * upstream)
    found = tape.gradient(loss, [v.value for v in made.variables[:-2]])
    for layer, inputs, name in zip(layers, (5, 6), ("layer_1", "layer_2"), strict=True):
        layer.build((None, None, inputs))
        layer.set_weights(weights(made, name))
    with tf.GradientTape() as tape:
        theirs = tf.gather(table, IDS)
        for layer in layers:
            theirs = layer(theirs)
        loss = tf.reduce_sum(theirs * upstream)
    wanted = tape.gradient(loss, [table, *(v.value for layer in layers for v in layer.trainable_variables)])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for mine, other in zip(found, wanted, strict=True):
        assert isinstance(mine, tf.Tensor)  # no list of rows, which replicas could not add up
        np.testing.assert_allclose(mine, tf.convert_to_tensor(other), rtol=1e-3, atol=1e-4)


def test_an_lstm_shows_its_output_gate_times_the_tanh_of_its_memory() -> None:
    projected, kernel = RNG.normal(size=(2, 3, 8)), RNG.normal(size=(2, 8))
    hidden, memory, shown = np.zeros((3, 2)), np.zeros((3, 2)), []
    for now in projected:
        f, i, o, g = (now + hidden @ kernel)[:, [2, 3, 0, 1, 6, 7, 4, 5]].reshape(3, 4, 2).transpose(1, 0, 2)
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(memory)
        shown.append(hidden)
    ours, (last, kept) = LSTM.sequence(tf.constant(projected, tf.float32), tf.constant(kernel, tf.float32))
    np.testing.assert_allclose(ours, shown, atol=1e-6)
    np.testing.assert_allclose(last, hidden, atol=1e-6)
    np.testing.assert_allclose(kept, memory, atol=1e-6)


def test_the_update_gate_of_a_gru_weighs_the_old_state() -> None:
    kernel = tf.zeros([2, 6])
    old = (tf.constant([[0.3, -0.7]]),)
    wide_open, shut = (tf.constant([[z, z, 0.0, 0.0, 9.0, 9.0]]) for z in (50.0, -50.0))
    np.testing.assert_allclose(GRU.step(wide_open, old, kernel)[0], old[0], atol=1e-6)
    np.testing.assert_allclose(GRU.step(shut, old, kernel)[0], [[1.0, 1.0]], atol=1e-6)


def test_the_reset_gate_of_a_gru_acts_before_the_product() -> None:
    kernel, old = RNG.normal(size=(2, 6)), RNG.normal(size=(1, 2))
    projected = RNG.normal(size=(1, 6))
    z, r = sigmoid(projected[:, :2] + old @ kernel[:, :2]), sigmoid(projected[:, 2:4] + old @ kernel[:, 2:4])
    new = np.tanh(projected[:, 4:] + (r * old) @ kernel[:, 4:])
    arguments = [tf.constant(part, tf.float32) for part in (projected, old, kernel)]
    (ours,) = GRU.step(arguments[0], (arguments[1],), arguments[2])
    np.testing.assert_allclose(ours, z * old + (1 - z) * new, atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_word_by_word_is_as_all_at_once(kind: str) -> None:
    made = model(kind, units=(6, 4))
    whole = made(tf.constant(IDS)).numpy()
    assert whole.shape == (3, 7, 20)
    assert whole.dtype == np.float32
    logits, state = made.begin(tf.constant(IDS[:, :2]))
    for place in range(2, 7):
        np.testing.assert_allclose(logits, whole[:, place - 1], atol=1e-4)
        logits, state = made.advance(tf.constant(IDS[:, place]), state)
    np.testing.assert_allclose(logits, whole[:, -1], atol=1e-4)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_no_word_is_told_from_later_ones(kind: str) -> None:
    made = model(kind)
    other = IDS.copy()
    other[:, 3] = 20 - other[:, 3] - (other[:, 3] == 10)
    one, two = made(tf.constant(IDS)).numpy(), made(tf.constant(other)).numpy()
    np.testing.assert_array_equal(one[:, :3], two[:, :3])
    assert (one[:, 3] != two[:, 3]).any(axis=-1).all()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_an_encoder_reads_both_ways_from_the_last_word(kind: str) -> None:
    made = model(kind, bidirectional=True)
    shown = made(tf.constant(IDS)).numpy()
    assert shown.shape == (3, 7, 12)
    theirs = keras.layers.Bidirectional(of_keras(kind, 6))
    theirs.build((None, None, 5))
    theirs.set_weights(weights(made, "layer_1") + weights(made, "layer_1_backwards"))
    looked_up = weights(made, "embedding")[0][IDS]
    np.testing.assert_allclose(shown[[0, 2]], np.asarray(theirs(looked_up))[[0, 2]], atol=1e-5)
    np.testing.assert_allclose(shown[1, :4], np.asarray(theirs(looked_up[1:2, :4]))[0], atol=1e-5)
    assert not shown[1, 4:].any()


def test_weights_have_different_names_and_start_as_in_keras() -> None:
    made = Recurrent(node("lstm"), SHAPE)
    assert len({v.path for v in made.variables}) == len(made.variables) == 6
    np.testing.assert_array_equal(weights(made, "layer_1")[2], np.repeat([0.0, 1.0, 0.0, 0.0], 6))
    recurrent = weights(made, "layer_1")[1]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(6), atol=1e-5)


def test_images_are_refused() -> None:
    assert node("lstm").refusal((28, 28, 1)) == "texts [words] are needed"
    with pytest.raises(UserError, match="texts"):
        Recurrent(node("lstm"), (28, 28, 1))

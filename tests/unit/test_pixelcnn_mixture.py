"""The PixelCNN with a mixture output: what sees what, exact probabilities, addressed dropout, and drawing."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from lehr.dynamics.raster import Raster
from lehr.errors import UserError
from lehr.models.dropout import Dropout
from lehr.models.pixelcnn_mixture import PixelCNNMixture
from lehr.spec.autoregressive import PixelCNNMixture as Node

Shape = tuple[int, int, int]
TWO: tuple[Shape, dict[str, Any]] = ((6, 6, 1), {"filters": 4, "mixtures": 2})
THREE: tuple[Shape, dict[str, Any]] = (
    (5, 6, 3),
    {"filters": 3, "hierarchies": 3, "mixtures": 2, "levels": 8},
)
ROUNDING = 1e-5  # a product of many rows may round a row otherwise than alone
BOOK: tuple[Shape, dict[str, Any]] = ((32, 32, 1), {})


def made(shape: Shape, settings: dict[str, Any], *, seed: int = 0) -> Any:
    """A network whose weights are random, biases too."""
    keras.utils.set_random_seed(seed)
    model = PixelCNNMixture(Node(kind="pixelcnn_mixture", **settings), shape)
    random = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign_add(random.normal(0.0, 0.1, weight.shape))
    return model


def images(model: Any, count: int, *, seed: int = 0) -> np.ndarray:
    shape = (count, *model.image_shape)
    return np.random.default_rng(seed).integers(0, model.mixture.levels, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "settings"), [TWO, THREE, BOOK, ((4, 4, 1), {"hierarchies": 1, "blocks": 2})]
)
def test_the_row_counts_the_parameters(shape: Shape, settings: dict[str, Any]) -> None:
    model = PixelCNNMixture(Node(kind="pixelcnn_mixture", **settings), shape)
    assert Node(kind="pixelcnn_mixture", **settings).parameters(shape) == model.count_params()
    assert len({weight.path for weight in model.weights}) == len(model.weights)


def test_the_books_settings_have_350_991_parameters() -> None:
    assert Node(kind="pixelcnn_mixture").parameters((32, 32, 1)) == 350_991


@pytest.mark.parametrize(("shape", "settings"), [TWO, THREE])
def test_nothing_before_or_at_a_pixel_changes_with_it(shape: Shape, settings: dict[str, Any]) -> None:
    """Each pixel of one image in turn is changed, through all sizes; what the network says is compared."""
    model = made(shape, settings)
    height, width, channels = shape
    image = images(model, 1)
    changed = np.repeat(image, height * width, axis=0)
    places = np.arange(height * width)
    changed[places, places // width, places % width] = (
        model.mixture.levels - 1 - image[0].reshape(-1, channels)
    )
    said, before = model(changed).numpy(), model(image).numpy()
    moved = np.abs(said - before).reshape(height * width, height * width, -1).max(axis=-1) > ROUNDING
    assert not np.tril(moved).any(), "a pixel sees itself or a later one"
    in_row = places[places % width > 0]
    assert moved[in_row - 1, in_row].all(), "a pixel does not see the one to its left"
    assert moved[places[:-width], places[width:]].all(), "a pixel does not see the one above"


def test_there_is_no_blind_spot() -> None:
    """What lies to the right in the rows above is seen, where masked 3x3 kernels are blind."""
    model = made(*TWO)
    image = images(model, 1)
    changed = np.repeat(image, 9, axis=0)
    area = [(row, column) for row in (2, 3) for column in (2, 3, 4, 5)] + [(4, 1)]
    for number, (row, column) in enumerate(area):
        changed[number, row, column] = 255.0 - image[0, row, column]
    said = np.abs(model(changed).numpy() - model(image).numpy())[:, 4, 2]
    assert (said.max(axis=-1) > ROUNDING).all()


def test_the_probabilities_of_all_images_sum_to_one() -> None:
    model = made((2, 2, 1), {"filters": 3, "mixtures": 2, "levels": 3})
    every = np.array(list(itertools.product(range(3), repeat=4)), np.float32).reshape(81, 2, 2, 1)
    told = model.log_probability(every).numpy().astype(np.float64)
    assert np.isclose(np.exp(told).sum(), 1.0, atol=1e-5)
    assert np.exp(told).std() > 1e-4


def test_every_weight_has_a_part_in_the_likelihood() -> None:
    model = made((8, 8, 1), {"filters": 3, "hierarchies": 3, "mixtures": 2})
    with tf.GradientTape() as tape:
        told = tf.reduce_sum(model.log_probability(images(model, 4)))
    gradients = tape.gradient(told, [weight.value for weight in model.trainable_variables])
    named = zip(model.trainable_variables, gradients, strict=True)
    assert [w.path for w, g in named if g is None or not np.abs(g.numpy()).max() > 0] == []


def address(step: int, first: int) -> tuple[Any, Any]:
    return tf.constant(step, tf.int64), tf.constant(first, tf.int64)


def test_dropout_does_not_depend_on_how_a_batch_is_cut() -> None:
    model = made(*TWO)
    batch = images(model, 5)
    whole = model.log_probability(batch, training=True, address=address(7, 0)).numpy()
    part = model.log_probability(batch[3:], training=True, address=address(7, 3)).numpy()
    assert np.allclose(whole[3:], part, rtol=1e-6)
    assert not np.allclose(whole, model.log_probability(batch, training=True, address=address(8, 0)))
    assert not np.allclose(whole, model.log_probability(batch))


def test_dropout_is_off_in_inference_and_needs_an_address_in_training() -> None:
    model, without = made(*TWO), made(TWO[0], TWO[1] | {"dropout": 0.0})
    batch = images(model, 2)
    assert np.array_equal(model.log_probability(batch), without.log_probability(batch, training=True))
    with pytest.raises(ValueError, match="address"):
        model.log_probability(batch, training=True)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    ones = tf.ones([3, 7, 5, 61])
    dropout = Dropout(0.3, seed=1)
    first, second = (dropout(ones, address(2, 10), layer).numpy() for layer in (1, 2))
    assert np.isclose((first == 0).mean(), 0.3, atol=0.02)
    assert np.allclose(first[first > 0], 1 / 0.7, rtol=1e-4)
    assert not np.array_equal(first, second)
    assert np.array_equal(first[2:], dropout(ones[:1], address(2, 12), 1))
    assert not np.array_equal(first, Dropout(0.3, seed=2)(ones, address(2, 10), 1))


def test_the_seed_of_the_weights_is_that_of_the_dropout_too() -> None:
    batch = images(made(*TWO), 2)
    told = [made(*TWO, seed=3).log_probability(batch, training=True, address=address(0, 0)) for _ in range(2)]
    assert np.array_equal(*told)


def test_a_scan_says_of_each_pixel_what_a_whole_pass_says() -> None:
    """At odd sizes and with three channels; and sample i is the same among any number."""
    model = made(*THREE)
    raster = Raster(model, seed=1)
    drawn, parameters = raster.draw(4)
    assert np.allclose(model(drawn), parameters, atol=2e-5)
    assert np.array_equal(drawn[2:], raster.draw(2, first=2)[0])
    assert len(np.unique(drawn)) > 4


def test_images_are_drawn_as_often_as_they_are_probable() -> None:
    """All 16 images of 2 x 2 pixels with 2 levels."""
    model = made((2, 2, 1), {"filters": 3, "hierarchies": 1, "mixtures": 2, "levels": 2})
    every = np.array(list(itertools.product(range(2), repeat=4)), np.float32).reshape(16, 2, 2, 1)
    expected = np.exp(model.log_probability(every).numpy().astype(np.float64))
    drawn = Raster(model, seed=2).draw(1600)[0].reshape(1600, 4).astype(np.int64)
    counts = np.bincount(drawn @ np.array([8, 4, 2, 1]), minlength=16)
    assert stats.chisquare(counts, expected / expected.sum() * 1600).pvalue > 1e-4


@pytest.mark.parametrize(("shape", "said"), [((64,), "images"), ((3, 8, 1), "3 hierarchies need 4")])
def test_shapes_that_cannot_be_are_refused(shape: tuple[int, ...], said: str) -> None:
    node = Node(kind="pixelcnn_mixture", hierarchies=3)
    assert said in (node.refusal(shape) or "")
    with pytest.raises(UserError, match="pixelcnn_mixture was given inputs of shape"):
        PixelCNNMixture(node, shape)
    assert node.refusal((4, 7, 3)) is None

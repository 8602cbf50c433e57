"""PixelCNN: causal, normalised, of the book's size; and the blind spot where theory has it."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lehr import plan as plans
from lehr import spec as specs
from lehr.errors import SpecError, UserError
from lehr.models.marginal import bits_per_dimension
from lehr.models.pixelcnn import PixelCNN
from lehr.spec import autoregressive

RNG = np.random.default_rng(5)


def network(shape: tuple[int, ...], *, filters: int = 8, blocks: int = 2, levels: int = 4) -> PixelCNN:
    """With biases that are not 0, so that forgetting one shows."""
    keras.utils.set_random_seed(1)
    model = PixelCNN(SimpleNamespace(filters=filters, blocks=blocks, levels=levels), shape)
    for weight in model.trainable_variables:
        if "bias" in weight.path:
            weight.assign(RNG.normal(size=weight.shape) * 0.3)
    return model


def images(rows: int, shape: tuple[int, ...], levels: int = 4) -> np.ndarray:
    return RNG.integers(0, levels, (rows, *shape)).astype(np.float32)


def test_the_book_s_network_has_the_book_s_weights() -> None:
    model = PixelCNN(SimpleNamespace(filters=128, blocks=5, levels=4), (16, 16, 1))
    assert model.count_params() == 307_460
    counts = dict.fromkeys(("first", "block", "last", "logits"), 0)
    for weight in model.trainable_variables:
        counts[weight.path.split("/")[1].split("_")[0]] += math.prod(weight.shape)
    assert counts == {"first": 6_400, "block": 5 * 53_504, "last": 2 * 16_512, "logits": 516}


@pytest.mark.parametrize(("filters", "blocks", "levels"), [(128, 5, 4), (7, 1, 2), (2, 3, 256)])
def test_the_row_knows_how_many_there_are(filters: int, blocks: int, levels: int) -> None:
    keys = {"kind": "pixelcnn", "filters": filters, "blocks": blocks, "levels": levels}
    node = autoregressive.PixelCNN.model_validate(keys)
    assert PixelCNN(node, (8, 8, 1)).count_params() == node.parameters((8, 8, 1))


def dependencies(model: PixelCNN, shape: tuple[int, int, int]) -> np.ndarray:
    """Whether any of a few changes of pixel (i, j) changes a logit of pixel (r, c): bool [i, j, r, c]."""
    height, width, _ = shape
    found = np.zeros((height, width, height, width), bool)
    for _ in range(6):
        base = images(1, shape)
        changed = np.repeat(base, height * width + 1, axis=0)
        for place, (i, j) in enumerate(itertools.product(range(height), range(width))):
            changed[place, i, j, 0] = (base[0, i, j, 0] + RNG.integers(1, 4)) % 4
        logits = model(changed).numpy()
        moved = np.abs(logits[:-1] - logits[-1]) > 1e-6  # a row may round otherwise at another place
        found |= moved.any(axis=-1).reshape(found.shape)
    return found


def seen(up: int, right: int, blocks: int) -> bool:
    """Whether a pixel sees the one `up` rows above and `right` columns to the right, by the masks: each
    3x3 layer moves one up and at most one aside, or one to the left; then the 7x7 one reaches 3."""
    for rises in range(blocks + 1):
        remaining = up - rises
        low, high = -rises - (blocks - rises), rises
        if 1 <= remaining <= 3 and low - 3 <= right <= high + 3:
            return True
        if remaining == 0 and low - 3 <= right <= high - 1:
            return True
    return False


@pytest.mark.parametrize("blocks", [1, 2])
def test_nothing_before_or_at_a_changed_pixel_changes_and_what_sees_it_does(blocks: int) -> None:
    shape = (8, 12, 1)
    found = dependencies(network(shape, filters=16, blocks=blocks), shape)
    for i, j, r, c in itertools.product(range(8), range(12), range(8), range(12)):
        if (r, c) <= (i, j):
            assert not found[i, j, r, c], f"pixel {(r, c)} saw {(i, j)}"
        assert found[i, j, r, c] == ((r, c) > (i, j) and seen(r - i, j - c, blocks)), (i, j, r, c)


def test_the_blind_spot_is_a_triangle_above_to_the_right() -> None:
    """In the k-th row above, pixels more than k + 2 to the right are not seen, with however many blocks."""
    for up in range(1, 9):
        assert seen(up, up + 2, blocks=20)
        assert not any(seen(up, right, blocks=20) for right in range(up + 3, 40))


def test_causality_does_not_rest_on_what_is_stored_under_the_mask() -> None:
    shape = (5, 5, 1)
    model = network(shape, blocks=1)
    for weight in model.trainable_variables:
        weight.assign(weight + RNG.normal(size=weight.shape) * 0.3)
    found = dependencies(model, shape).reshape(25, 25)
    assert not np.tril(found).any()
    assert found.any()


def test_probabilities_of_all_images_sum_to_one() -> None:
    shape, levels = (2, 3, 1), 3
    model = network(shape, levels=levels)
    everything = np.array(list(itertools.product(range(levels), repeat=6)), np.float32).reshape(-1, *shape)
    total = np.exp(model.log_probability(everything).numpy().astype(np.float64)).sum()
    assert total == pytest.approx(1.0, abs=1e-5)
    assert np.ptp(model.log_probability(everything)) > 0.1


def test_log_probability_is_the_sum_over_pixels() -> None:
    model, x = network((5, 4, 1)), images(3, (5, 4, 1))
    logits = model(x).numpy().astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(log_p, x.astype(np.int64), axis=-1).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(model.log_probability(x), expected, rtol=1e-5)


def test_the_network_sees_levels_below_one() -> None:
    """Level / levels, at most 0.75 of four: the first layer's own convolution of that."""
    model, x = network((6, 6, 1)), images(2, (6, 6, 1))
    block = model.blocks[0]
    heard: list[Any] = []
    block.call = lambda inputs: heard.append(inputs) or inputs
    model(x)
    np.testing.assert_allclose(heard[0], tf.nn.relu(model.first(x / 4.0)), atol=1e-6)


def test_training_leaves_masked_weights_at_zero() -> None:
    model, x = network((6, 6, 1)), images(4, (6, 6, 1))
    optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.1)
    before = model.log_probability(x).numpy().mean()
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(model.log_probability(x, training=True))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert model.log_probability(x).numpy().mean() > before + 1
    for layer, taps in [(model.first, 24), *((block.seen, 5) for block in model.blocks)]:
        stored = layer.kernel.numpy().reshape(-1, *layer.kernel.shape[2:])
        assert not stored[taps:].any()
        assert stored[:taps].all()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_small_and_answers_in_float32(precision: str) -> None:
    exact, x = network((6, 6, 1)), images(2, (6, 6, 1))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = network((6, 6, 1))
    finally:
        keras.config.set_dtype_policy(before)
    model.set_weights(exact.get_weights())
    logits = model(x)
    assert logits.dtype == model.log_probability(x).dtype == tf.float32
    assert 0 < np.abs(logits - exact(x)).max() < 0.1


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"(?s)pixelcnn was given inputs of shape \(8, 8, 3\).*one channel"):
        PixelCNN(SimpleNamespace(filters=4, blocks=1, levels=4), (8, 8, 3))


JOB = """\
version: 1
name: x
model: {kind: pixelcnn, levels: 4}
data: {kind: digits%s}
train: {global_batch: 4, duration: {steps: 1}, optimizer: {kind: adam, learning_rate: 1.0e-4}}
"""


def test_a_job_has_as_many_levels_as_its_data() -> None:
    assert plans.make(specs.parse(JOB % ", levels: 4")).spec.objective.kind == "likelihood"
    with pytest.raises(SpecError, match=r"(?s)data.levels: missing: model pixelcnn .*--set data.levels=4"):
        plans.make(specs.parse(JOB % ""))
    with pytest.raises(SpecError, match=r"(?s)data.levels: 16 grey levels; model pixelcnn has 4.*--set"):
        plans.make(specs.parse(JOB % ", levels: 16"))


def test_the_marginal_model_counts_levels_pixel_by_pixel() -> None:
    train = np.array([[0, 1], [0, 1], [0, 2]])
    held_out = np.array([[0, 2], [1, 1]])
    p = [[4 / 6, 1 / 6, 1 / 6], [1 / 6, 3 / 6, 2 / 6]]
    expected = -np.mean([math.log2(p[0][0]), math.log2(p[1][2]), math.log2(p[0][1]), math.log2(p[1][1])])
    assert bits_per_dimension(train, held_out, levels=3) == pytest.approx(expected)
    assert bits_per_dimension(train[..., None], held_out[..., None], levels=3) == pytest.approx(expected)

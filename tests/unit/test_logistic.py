"""Mixtures of discretised logistics: probabilities, their edges, and draws that follow them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from lehr.models.logistic import LEAST_LOG_SCALE, LogisticMixture

DRAWS = 20_000


def random_parameters(mixture: LogisticMixture, *lead: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.5, (*lead, mixture.outputs))


def single(levels: int, mean: float, log_scale: float) -> tuple[LogisticMixture, np.ndarray]:
    """One component, and the log-probabilities of all its levels."""
    mixture = LogisticMixture(1, levels)
    parameters = np.tile(np.float32([0.0, mean, log_scale]), (levels, 1))
    told = mixture.log_probability(parameters, np.arange(levels, dtype=np.float32)[:, np.newaxis])
    return mixture, told.numpy()


@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.0039, 0.7, 1.0, 5.0])
@pytest.mark.parametrize("log_scale", [-30.0, -7.0, -3.0, 0.0, 4.0])
def test_the_levels_probabilities_sum_to_one(levels: int, mean: float, log_scale: float) -> None:
    told = single(levels, mean, log_scale)[1]
    assert np.isclose(np.exp(told.astype(np.float64)).sum(), 1.0, atol=2e-5)


def test_a_mixtures_probabilities_sum_to_one() -> None:
    mixture = LogisticMixture(5)
    parameters = np.repeat(random_parameters(mixture, 7)[:, np.newaxis], 256, axis=1).astype(np.float32)
    levels = np.tile(np.arange(256, dtype=np.float32)[:, np.newaxis], (7, 1, 1))
    told = mixture.log_probability(parameters, levels).numpy().astype(np.float64)
    assert np.allclose(np.exp(told).sum(axis=1), 1.0, atol=2e-5)


def test_a_level_has_what_lies_between_two_sigmoids() -> None:
    """Against the definition, in float64 and without any of the rearrangement."""
    mixture = LogisticMixture(3)
    parameters = random_parameters(mixture, 256, seed=1) * 0.6
    weights, means, log_scales = np.split(parameters, 3, axis=1)
    weights = np.exp(weights) / np.exp(weights).sum(axis=1, keepdims=True)
    x, half = (np.arange(256) / 127.5 - 1.0)[:, np.newaxis], 1 / 255
    upper = 1 / (1 + np.exp(-(x + half - means) / np.exp(log_scales)))
    lower = 1 / (1 + np.exp(-(x - half - means) / np.exp(log_scales)))
    upper[255], lower[0] = 1.0, 0.0
    expected = np.log((weights * (upper - lower)).sum(axis=1))
    told = mixture.log_probability(parameters, np.arange(256.0)[:, np.newaxis]).numpy()
    assert np.allclose(told, expected, rtol=1e-9)


def test_far_from_the_mean_probabilities_fall_as_the_tail_does_and_stay_finite() -> None:
    told = single(256, -1.0, LEAST_LOG_SCALE)[1]
    x, half, scale = np.arange(1, 255) / 127.5 - 1.0, 1 / 255, np.exp(LEAST_LOG_SCALE)
    expected = -(x + 1.0 - half) / scale + np.log1p(-np.exp(-2 * half / scale))
    assert told[254] < -2000
    assert np.allclose(told[2:255], expected[1:], rtol=1e-5)


def test_a_wide_component_has_its_density_times_the_interval() -> None:
    told = single(256, 0.0, 30.0)[1]
    assert np.allclose(told[1:255], np.log(2 / 255) - 30.0 - np.log(4.0), rtol=1e-6)
    assert np.allclose(told[[0, 255]], np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_gradients_are_finite_at_the_edges_and_at_any_scale(level: int) -> None:
    mixture = LogisticMixture(2)
    means, scales = [-60.0, -1.0, -0.996, 0.0, 1.0, 60.0], [-40.0, -7.0, -2.0, 10.0, 60.0]
    grid = [(0.0, 0.0, m, -m, s, s) for m, s in itertools.product(means, scales)]
    parameters = tf.constant(grid, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        told = mixture.log_probability(parameters, tf.fill([len(grid), 1], float(level)))
    assert np.isfinite(told.numpy()).all()
    assert np.isfinite(tape.gradient(told, parameters).numpy()).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_log_probability_is_that_of_tensorflow_probability(channels: int) -> None:
    """Its whole `PixelCNN`, given the numbers that ours gets instead of its network's. It works beside Keras
    3, since it takes the older Keras from a package of its own (tf-keras); it is imported only here."""
    import tensorflow_probability as tfp

    mixture = LogisticMixture(5, channels=channels)
    parameters = random_parameters(mixture, 2, 8, 8, seed=channels)
    levels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, channels)).astype(np.float64)
    levels[0, 0, :4], levels[0, 1, :4] = 0.0, 255.0
    oracle = tfp.distributions.PixelCNN(
        image_shape=(8, 8, channels), num_resnet=1, num_hierarchies=1, num_filters=2, num_logistic_mix=5,
        use_weight_norm=False, dtype=tf.float64,
    )  # fmt: skip
    parts = mixture.components(parameters)
    given = [parts.logits, parts.means, tf.exp(parts.log_scales), parts.coefficients]
    oracle.network = lambda inputs, training=None: given if channels > 1 else given[:3]
    ours = tf.reduce_sum(mixture.log_probability(parameters, levels), axis=[1, 2])
    assert np.allclose(ours, oracle.log_prob(levels), rtol=1e-9)


def frequencies(mixture: LogisticMixture, parameters: np.ndarray, temperature: float) -> np.ndarray:
    """How often each level is drawn for one pixel of these parameters; the channels' levels jointly."""
    pixels = np.tile(parameters.astype(np.float32), (DRAWS, 1))
    chances = np.random.default_rng(5).random((DRAWS, mixture.chances), np.float32)
    drawn = mixture.draw(pixels, chances, temperature).numpy()
    assert np.array_equal(drawn, drawn.astype(np.int64))
    places = drawn.astype(np.int64) @ mixture.levels ** np.arange(mixture.channels)[::-1]
    return np.bincount(places, minlength=mixture.levels**mixture.channels)


def probabilities(mixture: LogisticMixture, parameters: np.ndarray) -> np.ndarray:
    every = np.array(list(itertools.product(range(mixture.levels), repeat=mixture.channels)), np.float64)
    return np.exp(mixture.log_probability(np.tile(parameters, (len(every), 1)), every).numpy())


def assert_follows(counts: np.ndarray, expected: np.ndarray) -> None:
    """Pearson's test, with rare outcomes taken together."""
    likely = expected * DRAWS >= 5
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], max(expected[~likely].sum(), 1e-12)) * DRAWS
    keep = wanted >= 1.0
    statistic = ((observed - wanted)[keep] ** 2 / wanted[keep]).sum()
    assert stats.chi2.sf(statistic, max(keep.sum() - 1, 1)) > 1e-4


@pytest.mark.parametrize(("levels", "channels"), [(256, 1), (4, 3)])
@pytest.mark.parametrize("temperature", [1.0, 1.0 + 1e-6])
def test_draws_follow_the_log_probability(levels: int, channels: int, temperature: float) -> None:
    """A temperature next to 1 is drawn by the table of all levels, 1 itself by component."""
    mixture = LogisticMixture(3, levels, channels)
    parameters = random_parameters(mixture, seed=11) * 0.7
    assert_follows(frequencies(mixture, parameters, temperature), probabilities(mixture, parameters))


def test_a_temperature_sharpens_the_probabilities_of_the_levels() -> None:
    mixture = LogisticMixture(3)
    parameters = random_parameters(mixture, seed=4) * 0.7
    expected = probabilities(mixture, parameters) ** 2
    assert_follows(frequencies(mixture, parameters, 0.5), expected / expected.sum())
    assert not np.allclose(expected / expected.sum(), probabilities(mixture, parameters), atol=1e-3)


def test_at_temperature_zero_the_likeliest_level_is_taken() -> None:
    mixture = LogisticMixture(3)
    parameters = random_parameters(mixture, seed=4)
    counts = frequencies(mixture, parameters, 0.0)
    assert counts[probabilities(mixture, parameters).argmax()] == DRAWS


def test_numbers_of_a_pixel_are_counted() -> None:
    assert [LogisticMixture(5, 256, channels).outputs for channels in (1, 2, 3)] == [15, 30, 50]


def test_an_unlikely_chance_of_zero_still_draws_a_level() -> None:
    mixture = LogisticMixture(2)
    pixels: Any = np.zeros((2, mixture.outputs), np.float32)
    drawn = mixture.draw(pixels, np.float32([[0.0, 0.0], [1.0, 1.0]]), 1.0).numpy()
    assert np.array_equal(drawn, [[0.0], [255.0]])

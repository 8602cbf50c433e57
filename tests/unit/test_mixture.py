"""The mixture: its density against SciPy's, its samples against its moments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import multivariate_normal

import jobs
from lehr import spec as specs
from lehr.data import land
from lehr.errors import UserError
from lehr.models.mixture import START, Mixture
from lehr.objectives.density import Density
from lehr.worker.build import network
from lehr.worker.sampling import Wanted, drawer

JOB = """
version: 1
name: mixture
model: {kind: mixture, components: 3, least_scale: 0.02}
data: {kind: land, train_examples: 40, validation_examples: 30}
train: {global_batch: 20, duration: {steps: 10}, optimizer: {kind: adam, learning_rate: 0.02}}
"""
RNG = np.random.default_rng(5)


def mixture(components: int = 3, least_scale: float = 0.02) -> Mixture:
    """Of three unlike components."""
    model = Mixture(SimpleNamespace(components=components, least_scale=least_scale), (2,))
    for weight in model.trainable_variables:
        weight.assign(weight.numpy() + RNG.normal(size=weight.shape) * 0.4)
    return model


def parts(model: Mixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares [components], means [components, 2] and covariances [components, 2, 2], in float64."""
    logits = model.shares.numpy().astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    first, slant, second = (part.numpy().astype(np.float64) for part in model.roots())
    roots = np.stack([np.stack([first, np.zeros_like(first)], -1), np.stack([slant, second], -1)], -2)
    return shares, model.means.numpy().astype(np.float64), roots @ roots.transpose(0, 2, 1)


def test_the_density_is_that_of_scipy() -> None:
    model, points = mixture(), RNG.uniform(-1, 1, (50, 2)).astype(np.float32)
    expected = sum(
        share * multivariate_normal(mean, covariance).pdf(points)
        for share, mean, covariance in zip(*parts(model), strict=True)
    )
    told = model.log_probability(tf.constant(points))
    assert np.allclose(told, np.log(expected), rtol=1e-4, atol=1e-4)
    assert np.array_equal(model.log_probability(tf.constant(points), training=True), told)
    assert np.array_equal(model(tf.constant(points)), told)


def test_six_parameters_a_component() -> None:
    assert mixture(3).count_params() == 18 == specs.parse(JOB).model.parameters((2,))
    assert mixture(1).count_params() == 6


def test_components_start_alike_at_places_of_the_seed() -> None:
    plan = jobs.plan(JOB)
    model, again = network(plan, (2,)), network(plan, (2,))
    other = network(jobs.plan(JOB, "train.seed=1"), (2,))
    first, slant, second = model.roots()
    assert np.allclose(first, START)
    assert np.allclose(second, START)
    assert np.array_equal(slant, np.zeros(3))
    assert np.array_equal(model.means.numpy(), again.means.numpy())
    assert not np.array_equal(model.means.numpy(), other.means.numpy())


def test_no_component_shrinks_onto_a_point() -> None:
    """Without a floor the likelihood of a component that sits on a point has no bound."""
    model = mixture(2, least_scale=0.05)
    model.scales.assign(np.full((2, 2), -50.0))
    model.slants.assign(np.zeros(2))
    assert np.allclose(model.roots()[0], 0.05)
    at_its_mean = model.log_probability(tf.constant(model.means.numpy()))
    assert float(tf.reduce_max(at_its_mean)) <= np.log(1 / (2 * np.pi * 0.05**2)) + 1e-4


def test_samples_have_the_mixture_s_moments() -> None:
    plan = jobs.plan(JOB)
    model = network(plan, (2,))
    for weight in model.trainable_variables:
        weight.assign(weight.numpy() + RNG.normal(size=weight.shape) * 0.4)
    points = drawer(plan, model, {}).draw(Wanted(count=20_000, seed=4)).arrays["points"]
    shares, means, covariances = parts(model)
    mean = shares @ means
    spread = covariances + np.einsum("ki,kj->kij", means - mean, means - mean)
    covariance = np.einsum("k,kij->ij", shares, spread)
    assert np.allclose(points.mean(axis=0), mean, atol=0.03)
    assert np.allclose(np.cov(points.T), covariance, atol=0.05 * covariance.max() + 0.01)
    fewer = drawer(plan, model, {}).draw(Wanted(count=9, seed=4)).arrays["points"]
    assert np.array_equal(fewer, points[:9])


def test_each_component_is_drawn_as_often_as_its_share() -> None:
    model = mixture(3)
    model.means.assign([[-1, 0], [0, 0], [1, 0]])
    model.scales.assign(np.full((3, 2), -50.0))
    model.slants.assign(np.zeros(3))
    model.shares.assign(np.log([0.5, 0.2, 0.3]))
    uniform = tf.random.stateless_uniform((20_000, 3), (1, 2), -1, 1)
    drawn = np.rint(model.sample(uniform, tf.random.stateless_normal((20_000, 2), (3, 4))).numpy()[:, 0])
    assert [float((drawn == place).mean()) for place in (-1, 0, 1)] == pytest.approx(
        [0.5, 0.2, 0.3], abs=0.015
    )
    last = model.sample(tf.ones((1, 3)), tf.zeros((1, 2)))  # rounding may bring a draw to the very end
    assert np.allclose(last, [[1, 0]])


def test_gradients_raise_the_likelihood() -> None:
    model, objective, points = mixture(3), Density(None, None), land.points(0, 0, 40)
    batch: dict[str, Any] = {"input": tf.constant(points), "weight": tf.ones(40), "count": tf.constant(40.0)}
    weights = [weight.value for weight in model.trainable_variables]
    losses = []
    for _ in range(30):
        with tf.GradientTape() as tape:
            loss, _ = objective.loss(model, batch)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.01 * gradient)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.05
    halves = [
        {"input": batch["input"][rows], "weight": tf.ones(20), "count": batch["count"]}
        for rows in (slice(0, 20), slice(20, 40))
    ]
    whole = objective.validate(model, batch)
    for name in objective.validation_metrics:
        added = sum(float(objective.validate(model, half)[name]) for half in halves)
        assert added == pytest.approx(float(whole[name]), rel=1e-5)


def test_images_are_refused() -> None:
    with pytest.raises(UserError, match="points in the plane"):
        Mixture(SimpleNamespace(components=2, least_scale=0.02), (8, 8, 1))

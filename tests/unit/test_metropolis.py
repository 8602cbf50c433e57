"""Metropolis-adjusted Langevin: its law is exp(-E) on the box exactly, walls included."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lehr.dynamics import metropolis
from lehr.dynamics.langevin import Address, Rule, ends, trajectory
from lehr.dynamics.noise import Noise
from lehr.dynamics.samples import Sampler
from lehr.seeds import Purpose

ADDRESS = Address(Noise(2, Purpose.CHAIN_NOISE), 3, 0, Noise(2, Purpose.ACCEPTANCE))
CHAINS, STEPS, BINS = 8192, 150, 8


def energy(x: Any, y: Any) -> Any:
    """Two hollows in x, tied to y, and a slope in y that presses against the wall y = 1."""
    return 6.0 * (x**2 - 0.4) ** 2 + 1.5 * x * y - 1.5 * y


def slope(points: Any) -> tuple[Any, Any]:
    """Of `energy`; points [batch, 2]."""
    x, y = points[:, 0], points[:, 1]
    across = 24.0 * x * (x**2 - 0.4) + 1.5 * y
    return energy(x, y), tf.stack([across, 1.5 * x - 1.5], 1)


def uniform(rows: int) -> Any:
    return Noise(1, Purpose.SAMPLE_START).uniform((rows, 2), step=0, k=0, first=0)


def expected() -> np.ndarray:
    """Of the chains in each of BINS x BINS fields, how many lie there under exp(-E): midpoints of a fine
    grid."""
    fine = 40
    middle = (np.arange(BINS * fine) + 0.5) / (BINS * fine) * 2 - 1
    weight = np.exp(-energy(middle[:, None], middle[None, :]))
    fields = weight.reshape(BINS, fine, BINS, fine).sum(axis=(1, 3))
    return CHAINS * fields / fields.sum()


def distance(rule: Rule) -> tuple[float, float]:
    """Pearson's chi-squared of where chains end against exp(-E), and the share of steps that were taken."""
    program = tf.function(lambda start: ends(slope, start, rule, ADDRESS, steps=STEPS))
    found = program(uniform(CHAINS))
    points = found.images.numpy()
    assert np.abs(points).max() <= 1.0
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=BINS, range=[[-1, 1], [-1, 1]])
    return float(((counts - expected()) ** 2 / expected()).sum()), float(found.taken.numpy().mean()) / STEPS


# 63 degrees of freedom: mean 63, standard deviation 11.2; by chance above 120 once in 50,000 times.
@pytest.mark.parametrize(("step_size", "cut"), [(0.02, None), (0.15, None), (0.15, 0.5), (0.6, None)])
def test_chains_reach_the_exact_law_for_any_step_and_any_cut(step_size: float, cut: float | None) -> None:
    chi_squared, taken = distance(Rule(step_size, 0.005, cut, acceptance=True))
    assert chi_squared < 120
    assert 0.1 < taken < 0.99, "all or nothing is taken: the test shows nothing"


def test_without_acceptance_the_same_step_does_not() -> None:
    """Of the same size and noise: what the test above would say of a wrong law."""
    assert distance(Rule(0.15, math.sqrt(0.3), None))[0] > 500


def test_the_ratio_is_that_of_metropolis_and_hastings() -> None:
    """Against E(x) - E(y) + log q(x | y) - log q(y | x) in float64, within the box and across a wall."""
    h, generator = 0.1, np.random.default_rng(0)
    x = generator.uniform(-1, 1, (200, 2)).astype(np.float32)
    normal = generator.standard_normal((200, 2)).astype(np.float32)
    energy_x, drift = (np.asarray(part) for part in slope(tf.constant(x)))
    y, sign = (np.asarray(part) for part in metropolis.propose(x, drift, normal, h))
    energy_y, there = (np.asarray(part, np.float64) for part in slope(tf.constant(y)))
    assert (sign < 0).any()
    assert (sign > 0).any()
    came = x.astype(np.float64) - h * drift + np.sqrt(2 * h) * normal  # y before it was folded
    back = ((x - came + h * sign * there) ** 2).sum(axis=1) / (4 * h)
    forth = ((came - x + h * drift) ** 2).sum(axis=1) / (4 * h)
    exponent = metropolis.log_ratio(
        tf.constant(energy_x - energy_y, tf.float32), tf.constant(drift + sign * there, tf.float32), normal, h
    )
    assert np.allclose(exponent, energy_x - energy_y - back + forth, atol=1e-4)


def test_walls_reflect_as_often_as_it_takes() -> None:
    place, sign = metropolis.fold(tf.constant([0.25, -1.0, 1.0, 1.25, -1.5, 3.25, -3.5, 5.25]))
    assert place.numpy().tolist() == [0.25, -1.0, 1.0, 0.75, -0.5, -0.75, 0.5, 0.75]
    assert sign.numpy().tolist() == [1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0]


def test_what_is_no_number_is_never_taken() -> None:
    exponents = tf.constant([math.nan, -math.inf, math.inf, 0.0, -1e-3])
    assert metropolis.accept(exponents, tf.zeros(5)).numpy().tolist() == [False, False, True, True, True]
    assert metropolis.accept(exponents, tf.fill([5], 0.9999)).numpy().tolist() == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_on_level_ground_every_step_is_taken() -> None:
    flat = lambda points: (tf.zeros([points.shape[0]]), tf.zeros_like(points))  # noqa: E731
    found = ends(flat, uniform(512), Rule(0.3, 0.0, None, acceptance=True), ADDRESS, steps=20)
    assert found.taken.numpy().tolist() == [20.0] * 512


def test_chains_do_not_depend_on_who_holds_them() -> None:
    rule = Rule(0.15, 0.0, None, acceptance=True)
    whole = ends(slope, uniform(64), rule, ADDRESS, steps=10)
    for rows in (slice(0, 24), slice(24, 64)):
        part = ends(slope, uniform(64)[rows], rule, ADDRESS.moved(rows.start), steps=10, lanes=2)
        assert np.allclose(part.images, whole.images[rows], atol=1e-4)
        assert np.array_equal(part.taken, whole.taken[rows])


def test_a_trajectory_ends_where_its_chains_do() -> None:
    rule = Rule(0.15, 0.0, None, acceptance=True)
    path = trajectory(slope, uniform(32), rule, ADDRESS, at=(0, 7, 30))
    end = ends(slope, uniform(32), rule, ADDRESS, steps=30)
    assert np.array_equal(path.images[-1], end.images)
    assert np.allclose(path.energy[-1], slope(end.images)[0]), "of where a step ended, not of what it refused"


def test_acceptance_needs_chances_of_its_own() -> None:
    with pytest.raises(ValueError, match="a stream of its own"):
        ends(slope, uniform(4), Rule(0.1, 0.0, None, acceptance=True), Address(ADDRESS.noise), steps=1)


def test_samples_with_acceptance_depend_on_seed_and_number_alone() -> None:
    class Node:
        step_size, noise, gradient_clip, noise_end, acceptance = 0.15, 0.005, None, None, True

    model = lambda points, training: -slope(points)[0]  # noqa: E731
    sampler = Sampler(model, Node, (2,), seed=5)
    some, later = sampler.draw(6, at=(0, 8)), sampler.draw(2, at=(0, 8), first=4)
    assert np.allclose(some.images[:, 4:], later.images, atol=1e-5)
    refused = np.all(np.diff(sampler.draw(64, at=tuple(range(9))).images, axis=0) == 0, axis=2)
    assert 0.05 < refused.mean() < 0.95

"""What is told of chains: by hand, and how long a chain remembers against theory."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from lehr.dynamics import diagnostics
from lehr.dynamics.langevin import Ends


def remembering(r: float, *, steps: int, chains: int) -> np.ndarray:
    """x <- r x + n: correlation r^lag, integrated time (1 + r) / (1 - r)."""
    generator = np.random.default_rng(3)
    values = np.zeros((steps, chains))
    values[0] = generator.standard_normal(chains) / math.sqrt(1 - r**2)
    for step in range(1, steps):
        values[step] = r * values[step - 1] + generator.standard_normal(chains)
    return values


def test_numbers_of_chains_by_hand() -> None:
    start = tf.zeros((2, 2, 2, 1))
    images = tf.reshape(tf.constant([[1.0, -1.0, 0.997, 0.5], [0.0, 0.0, 0.0, 0.0]]), (2, 2, 2, 1))
    gradient = tf.reshape(tf.constant([[1.0, -3.0, 0.0, 0.0], [0.5, 0.5, -0.5, -0.5]]), (2, 2, 2, 1))
    told = diagnostics.of_chains(start, Ends(images, gradient, tf.constant([3.0, 4.0])), steps=4)
    assert tuple(told) == diagnostics.METRICS[:4]
    rms = math.sqrt((1 + 1 + 0.997**2 + 0.25) / 4)
    expected = {
        "chain_gradient": [1.0, 0.5],
        "chain_displacement": [rms, 0.0],
        "chain_saturation": [0.75, 0.0],
        "chain_acceptance": [0.75, 1.0],
    }
    for name, values in expected.items():
        assert told[name].numpy() == pytest.approx(values, rel=1e-6), name


def test_autocorrelation_is_its_definition() -> None:
    values = np.random.default_rng(0).standard_normal((13, 5)).cumsum(axis=0)
    centred = values - values.mean(axis=0)
    by_hand = [(centred[: 13 - lag] * centred[lag:]).sum() for lag in range(13)]
    assert diagnostics.autocorrelation(values) == pytest.approx(np.array(by_hand) / by_hand[0], abs=1e-12)


@pytest.mark.parametrize("r", [0.0, 0.5, 0.9])
def test_a_chain_that_forgets_at_a_known_rate(r: float) -> None:
    values = remembering(r, steps=4000, chains=32)
    correlation = diagnostics.autocorrelation(values)
    assert correlation[1] == pytest.approx(r, abs=0.01)
    assert correlation[10] == pytest.approx(r**10, abs=0.02)
    assert diagnostics.integrated(correlation) == pytest.approx((1 + r) / (1 - r), rel=0.08)


def test_facts_of_samples_leave_the_fall_out() -> None:
    values = remembering(0.9, steps=4000, chains=32)
    values[:2000] += np.linspace(500, 0, 2000)[:, None]
    facts = json.loads(json.dumps(diagnostics.of_energies(values.astype(np.float32))))
    assert facts["energy_autocorrelation"]["1"] == pytest.approx(0.9, abs=0.02)
    assert facts["energy_autocorrelation"]["100"] == pytest.approx(0.0, abs=0.05)
    assert facts["energy_autocorrelation_steps"] == pytest.approx(19, rel=0.15)


@pytest.mark.parametrize(
    "energies",
    [np.zeros((0, 4)), np.zeros((3, 4)), np.ones((100, 4)), np.full((100, 4), np.nan), np.zeros((100, 0))],
)
def test_what_cannot_be_told_is_not(energies: np.ndarray) -> None:
    facts = diagnostics.of_energies(energies)
    assert facts == {"energy_autocorrelation": {}, "energy_autocorrelation_steps": None}
    json.dumps(facts, allow_nan=False)


def test_short_chains_have_short_lags_only() -> None:
    facts = diagnostics.of_energies(remembering(0.5, steps=100, chains=8))
    assert list(facts["energy_autocorrelation"]) == ["1", "10"]

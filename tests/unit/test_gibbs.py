"""Gibbs chains: they reach the exact law of a small machine, and who holds a chain changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chi2

import jobs
import machines
from lehr.dynamics.gibbs import Chains, Coins, Net, decided, sweeps, trajectory, unit_sweeps
from lehr.dynamics.noise import Noise
from lehr.errors import UserError
from lehr.seeds import Purpose
from lehr.worker.build import network
from lehr.worker.gibbs import Gibbs
from lehr.worker.sampling import Wanted

ROWS = 40_000
COINS = Coins(Noise(3, Purpose.GIBBS_NOISE), 5)


def bound(states: int) -> float:
    """What a chi-square statistic over `states` exceeds once in a hundred thousand times."""
    return float(chi2.ppf(1 - 1e-5, states - 1))


def coin_flips(rows: int, units: int) -> Any:
    return Coins(Noise(1, Purpose.GIBBS_START)).toss(tf.zeros([rows, units]), 0)


def ends_of_layers(model: Any, *, steps: int) -> Any:
    return tf.function(lambda h: sweeps(model, h, COINS, steps=steps))(coin_flips(ROWS, model.hidden))


def test_chains_of_two_layers_reach_the_exact_law() -> None:
    model = machines.restricted(4, 3)
    end = ends_of_layers(model, steps=60)
    both = np.concatenate([end.visible, end.hidden], 1)
    counts = np.bincount(machines.number(both), minlength=2**7)
    assert machines.chi_square(counts, machines.law(model)) < bound(2**7)
    assert np.allclose(end.hidden_input, model.hidden_input(end.visible), atol=1e-5)


def test_the_law_of_another_machine_is_told_apart() -> None:
    """That the bound can fail: weights that differ by a fifth, and chains of a single sweep."""
    model, other = machines.restricted(4, 3), machines.restricted(4, 3, scale=1.2)
    seen = np.bincount(machines.number(ends_of_layers(model, steps=60).visible), minlength=2**4)
    assert machines.chi_square(seen, machines.visible_law(other)) > 5 * bound(2**4)
    early = np.bincount(machines.number(ends_of_layers(model, steps=1).visible), minlength=2**4)
    assert machines.chi_square(early, machines.visible_law(model)) > 5 * bound(2**4)


def test_chains_of_a_connected_machine_reach_the_exact_law() -> None:
    model = machines.connected(4, 3)
    net = Net(model.couplings(), model.biases())
    program = tf.function(lambda units: unit_sweeps(net, units, COINS, steps=60, of=(0, 7)))
    counts = np.bincount(machines.number(program(coin_flips(ROWS, 7))), minlength=2**7)
    assert machines.chi_square(counts, machines.law(model)) < bound(2**7)
    without_pairs = machines.restricted(4, 3)
    for name in ("kernel", "visible_bias", "hidden_bias"):
        getattr(without_pairs, name).assign(getattr(model, name))
    assert machines.chi_square(counts, machines.law(without_pairs)) > 5 * bound(2**7)


def test_clamped_units_stay_and_the_others_follow_the_exact_conditional() -> None:
    model = machines.connected(4, 3)
    visible = tf.repeat(tf.constant([[1.0, 0.0, 1.0, 1.0]]), ROWS, 0)
    units = tf.concat([visible, coin_flips(ROWS, 3)], 1)
    net = Net(model.couplings(), model.biases())
    ends = unit_sweeps(net, units, COINS, steps=20, of=(4, 7))
    assert np.array_equal(ends[:, :4], visible)
    given = machines.law(model).reshape(2**3, 2**4)[:, machines.number([[1, 0, 1, 1]])[0]]
    counts = np.bincount(machines.number(ends[:, 4:]), minlength=2**3)
    assert machines.chi_square(counts, given / given.sum()) < bound(2**3)


@pytest.mark.parametrize("log_odds", [-2.0, 0.0, 0.7])
def test_a_unit_is_on_with_its_probability(log_odds: float) -> None:
    share = float(tf.reduce_mean(COINS.toss(tf.fill([1000, 100], log_odds), 0)))
    p = 1 / (1 + np.exp(-log_odds))
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / 1e5)


def test_units_that_are_certain_are_certain() -> None:
    extremes = tf.constant([-1.0, -0.5, 0.0, 0.999_999_9])
    assert np.array_equal(decided(extremes, tf.fill([4], 100.0)), np.ones(4))
    assert np.array_equal(decided(extremes, tf.fill([4], -100.0)), np.zeros(4))


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_slices_of_a_batch_have_the_chains_of_the_whole(cut: int) -> None:
    model, start = machines.restricted(9, 5), coin_flips(8, 5)
    whole = sweeps(model, start, COINS, steps=7)
    connected = machines.connected(5, 3)
    free = Net(connected.couplings(), connected.biases())
    begin = coin_flips(8, 8)
    all_of = unit_sweeps(free, begin, COINS, steps=3, of=(0, 8))
    for rows in (slice(0, cut), slice(cut, 8)):
        coins = Coins(COINS.noise, COINS.step, rows.start)
        part = sweeps(model, start[rows], coins, steps=7)
        assert np.array_equal(part.visible, whole.visible[rows])
        assert np.array_equal(part.hidden, whole.hidden[rows])
        assert np.array_equal(unit_sweeps(free, begin[rows], coins, steps=3, of=(0, 8)), all_of[rows])


def test_every_sweep_and_every_training_step_has_coins_of_its_own() -> None:
    flat, start = machines.restricted(40, 30, scale=0.0), coin_flips(50, 30)
    first, second = (sweeps(flat, start, COINS, steps=n) for n in (1, 2))
    other = sweeps(flat, start, Coins(COINS.noise, 6), steps=1)
    for a, b in (
        (first.visible, second.visible),
        (first.hidden, second.hidden),
        (first.visible, other.visible),
    ):
        assert 0.4 < float(np.mean(np.asarray(a) != np.asarray(b))) < 0.6
    assert 0.4 < float(np.mean(np.asarray(first.visible[:, :30]) != np.asarray(first.hidden))) < 0.6


def test_a_trajectory_passes_where_the_chain_passes() -> None:
    model, start = machines.restricted(9, 5), coin_flips(6, 5)
    seen = trajectory(model, start, COINS, at=(0, 1, 3, 8))
    assert np.array_equal(seen[0], start)
    for hidden, steps in zip(seen[1:], (1, 3, 8), strict=True):
        assert np.array_equal(hidden, sweeps(model, start, COINS, steps=steps).hidden)


def test_a_batch_whose_size_is_not_known_when_traced() -> None:
    model, start = machines.restricted(9, 5), coin_flips(6, 5)
    program = tf.function(
        lambda h: sweeps(model, h, COINS, steps=4).hidden, input_signature=[tf.TensorSpec([None, 5])]
    )
    assert np.array_equal(program(start), sweeps(model, start, COINS, steps=4).hidden)


def test_persistent_chains_start_the_same_whoever_holds_them() -> None:
    whole = Chains(20, first_slot=0, slots=8, seed=1)
    halves = [Chains(20, first_slot=first, slots=4, seed=1) for first in (0, 4)]
    parts = np.concatenate([half.draw(0)["start"] for half in halves])
    assert np.array_equal(whole.draw(0)["start"], parts)
    assert 0.3 < parts.mean() < 0.7
    assert not np.array_equal(parts, Chains(20, first_slot=0, slots=8, seed=2).draw(0)["start"])


def test_persistent_chains_go_on_from_a_checkpoint() -> None:
    chains, ends = Chains(6, first_slot=2, slots=3, seed=1), np.eye(3, 6, dtype=np.float32)
    chains.keep(0, {"chain": ends})
    state = chains.state()
    chains.keep(1, {"chain": 1.0 - ends})
    assert state["chains"].dtype == np.uint8
    assert np.array_equal(state["chains"], ends), "a state is a copy"
    resumed = Chains(6, first_slot=2, slots=3, seed=1)
    resumed.restore(state)
    assert np.array_equal(resumed.draw(1)["start"], ends)
    assert resumed.draw(1)["start"].dtype == np.float32


@pytest.mark.parametrize("state", [{}, {"chains": np.zeros((3, 7), np.uint8)}])
def test_chains_of_another_machine_are_refused(state: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match="persistent chains of the same model"):
        Chains(6, first_slot=0, slots=3, seed=1).restore(state)


JOB = """
version: 1
name: machine
model: {kind: rbm, hidden: 3}
data: {kind: digits, levels: 2, image_size: 2}
train: {global_batch: 8, duration: {steps: 10}, optimizer: {kind: sgd, learning_rate: 0.1}}
sampler: {kind: gibbs}
"""
SETS = {
    "rbm": (),
    "boltzmann": ("model.kind=boltzmann",),
    "dbn": ("model={kind: dbn, hidden: [3, 2]}", "objective={kind: boltzmann, layer: {steps: 1}}"),
}
LAWS = {"rbm": machines.visible_law, "boltzmann": machines.visible_law, "dbn": machines.stack_law}


@pytest.mark.parametrize("kind", SETS)
def test_samples_follow_the_exact_law_of_the_pixels(kind: str) -> None:
    plan = jobs.plan(JOB, *SETS[kind])
    model = machines.scaled(network(plan, (2, 2, 1)), 1.0, 2)
    drawn = Gibbs(plan, model, {}).draw(Wanted(count=20_000, seed=1, steps=40))
    assert drawn.arrays["images"].shape == drawn.arrays["probabilities"].shape == (20_000, 2, 2, 1)
    counts = np.bincount(machines.number(drawn.arrays["images"].reshape(-1, 4)), minlength=2**4)
    assert machines.chi_square(counts, LAWS[kind](model)) < bound(2**4)
    for weight in model.trainable_variables:
        weight.assign(1.3 * weight)
    assert machines.chi_square(counts, LAWS[kind](model)) > bound(2**4), "the bound cannot fail"


@pytest.mark.parametrize("kind", SETS)
def test_samples_depend_on_seed_and_number_alone(kind: str) -> None:
    plan = jobs.plan(JOB, *SETS[kind])
    model = machines.scaled(network(plan, (2, 2, 1)), 1.0, 0)
    drawer = Gibbs(plan, model, {})
    many, few, other = (drawer.draw(Wanted(count=n, seed=s, steps=5)) for n, s in ((40, 1), (7, 1), (40, 2)))
    assert many.facts["frame_steps"] == [0, 1, 3, 5]
    assert many.arrays["frames"].shape == (4, 40, 2, 2, 1)
    assert set(many.pictures) == {"grid", "strip"}
    assert np.array_equal(many.arrays["images"][:7], few.arrays["images"])
    assert np.allclose(many.arrays["frames"][:, :7], few.arrays["frames"], atol=1e-6)
    assert not np.array_equal(many.arrays["images"], other.arrays["images"])
    for weight in model.trainable_variables:
        weight.assign(tf.zeros_like(weight))
    assert np.all(drawer.draw(Wanted(count=7, seed=1, steps=5)).arrays["probabilities"] == 0.5)

"""The restricted Boltzmann machine and its learning, against enumeration of a small one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import learning
import machines
from lehr import plan as plans
from lehr import spec as specs
from lehr.dynamics.annealing import Weights, enumerated, log_likelihood
from lehr.errors import SpecError, UserError
from lehr.models.rbm import RestrictedBoltzmannMachine
from lehr.objectives.objective import Objective
from lehr.spec import kinds

VISIBLE, HIDDEN, SLOTS = 6, 4, 8
JOB = """
version: 1
name: rbm
model: {kind: rbm, hidden: 500}
data: {kind: mnist, levels: 2}
train: {global_batch: 100, duration: {epochs: 1}, optimizer: {kind: sgd, learning_rate: 0.1}}
sampler: {kind: gibbs}
samples: {every: {epochs: 1}, steps: 50}
"""


@pytest.fixture(scope="module")
def model() -> RestrictedBoltzmannMachine:
    return machines.restricted(VISIBLE, HIDDEN)


def data(seed: int = 1) -> np.ndarray:
    return learning.coins(SLOTS, VISIBLE, seed=seed, p=0.3)


def test_a_job_has_as_many_parameters_as_the_code() -> None:
    planned = plans.make(specs.parse(JOB))
    node = planned.spec.model
    network = kinds.load(node)(node, (28, 28, 1))
    assert planned.parameters == network.count_params() == 784 * 500 + 784 + 500
    assert planned.spec.objective.kind == "boltzmann"
    assert isinstance(node.chain((28, 28, 1)), int)


@pytest.mark.parametrize(
    ("sets", "path"),
    [
        (["data.levels=null"], "data.levels"),
        (["data.levels=4"], "data.levels"),
        (["objective={kind: boltzmann, layer: {epochs: 1}}"], "objective.layer"),
        (["sampler={kind: langevin}"], "sampler"),
        (["sampler=null"], "sampler"),
        (["objective={kind: contrastive}"], "objective.kind"),
        (
            [
                "model={kind: dbn}",
                "objective={kind: boltzmann, layer: {epochs: 1}}",
                "recovery.on_divergence=rollback",
            ],
            "recovery.on_divergence",
        ),
    ],
)
def test_jobs_that_cannot_be_are_refused(sets: list[str], path: str) -> None:
    with pytest.raises(SpecError, match=path):
        plans.make(specs.parse(JOB, sets=sets))


def test_it_is_an_objective_with_the_metrics_that_the_spec_knows() -> None:
    spec = specs.parse(JOB)
    it: Objective = kinds.load(spec.objective)(spec.objective, spec)
    assert it.metrics == spec.objective.metrics
    assert it.validation_metrics == spec.objective.validation_metrics
    assert it.products == ("chain",)
    assert not hasattr(it, "anew"), "nothing is trained in turn"


def test_weights_start_small_and_biases_at_zero() -> None:
    fresh = RestrictedBoltzmannMachine(SimpleNamespace(hidden=40), (5, 5, 1))
    assert np.asarray(fresh.kernel).std() == pytest.approx(0.01, rel=0.15)
    assert not np.asarray(fresh.visible_bias).any()
    assert not np.asarray(fresh.hidden_bias).any()


def test_the_free_energy_is_that_of_the_sum_over_hidden_units(model: RestrictedBoltzmannMachine) -> None:
    free = np.asarray(model.free_energy(tf.constant(machines.states(VISIBLE), tf.float32)), np.float64)
    likely = np.exp(-free)
    assert likely / likely.sum() == pytest.approx(machines.visible_law(model), rel=1e-4)
    pictures = machines.states(VISIBLE).reshape(-1, 3, 2, 1)
    assert np.allclose(model(pictures), -free), "the model's call is the score"


def test_the_gradient_in_closed_form_is_that_of_automatic_differentiation(
    model: RestrictedBoltzmannMachine,
) -> None:
    visible, shares = tf.constant(data()), tf.linspace(-1.0, 2.0, SLOTS)
    variables = [weight.value for weight in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        plain = -tf.linalg.matvec(visible, model.visible_bias.value) - tf.reduce_sum(
            tf.math.softplus(visible @ model.kernel.value + model.hidden_bias.value), 1
        )
        expected = tf.reduce_sum(shares * plain)
        known = model.hidden_input(visible)
        got = [tf.reduce_sum(shares * model.free_energy(visible, given)) for given in (None, known)]
    for total in got:
        assert float(total) == pytest.approx(float(expected), rel=1e-5)
        for one, other in zip(
            tape.gradient(total, variables), tape.gradient(expected, variables), strict=True
        ):
            assert np.allclose(one, other, atol=1e-5)


def test_turning_a_unit_over_changes_the_free_energy_by_as_much(model: RestrictedBoltzmannMachine) -> None:
    visible, unit = data(), np.arange(SLOTS) % VISIBLE
    turned = visible.copy()
    turned[np.arange(SLOTS), unit] = 1 - turned[np.arange(SLOTS), unit]
    expected = model.free_energy(tf.constant(turned)) - model.free_energy(tf.constant(visible))
    change = model.flip(tf.constant(visible), model.hidden_input(visible), tf.constant(unit, tf.int32))
    assert np.allclose(change, expected, atol=1e-5)


def test_the_gradient_is_that_of_the_exact_likelihood_when_the_chains_are_the_model_s() -> None:
    """Persistent chains after many sweeps: 40,000 of them, against enumeration."""
    machine, slots = machines.restricted(5, 3), 40_000
    rows = learning.coins(slots, 5, seed=2, p=0.3)
    it = learning.objective("rbm", 3, steps=50)
    _, gradients, _ = learning.step(it, machine, learning.batch(it, rows))
    exact, found = machines.slopes(machine, rows), learning.named(gradients)
    for name in exact:
        assert np.abs(found[name] - exact[name]).max() < 5 * 0.5 / np.sqrt(slots), name
        assert np.abs(exact[name]).max() > 0.05, f"{name}: the test shows nothing"


def test_a_single_step_from_the_data_is_another_direction() -> None:
    """CD-1 is biased: the bound above is one that a wrong gradient does not hold."""
    machine, slots = machines.restricted(5, 3, scale=2.0), 40_000
    rows = learning.coins(slots, 5, seed=2, p=0.3)
    it = learning.objective("rbm", 3, persistent=False)
    _, gradients, prepared = learning.step(it, machine, learning.batch(it, rows))
    exact, found = machines.slopes(machine, rows), learning.named(gradients)
    assert np.abs(found["kernel"] - exact["kernel"]).max() > 2 * 5 * 0.5 / np.sqrt(slots)
    assert it.products == ()
    assert it.memory(shape=(5,), slots=4, first_slot=0, global_slots=4) is None
    # By enumeration: v -> h -> v from the data is one step of the chain's kernel.
    joint = machines.law(machine).reshape(2**3, 2**5)
    down, up = joint / joint.sum(1, keepdims=True), joint / joint.sum(0)
    began = np.bincount(machines.number(rows), minlength=2**5) / slots
    seen = np.bincount(machines.number(np.asarray(prepared["visible"])[slots:]), minlength=2**5)
    assert np.abs(seen / slots - (up @ began) @ down).sum() < 0.03 < np.abs(seen / slots - began).sum()


@pytest.mark.parametrize(("replicas", "real", "persistent"), [(2, SLOTS, True), (4, 5, True), (2, 5, False)])
def test_shares_and_gradients_add_over_replicas(
    model: RestrictedBoltzmannMachine, replicas: int, real: int, persistent: bool
) -> None:
    it = learning.objective("rbm", HIDDEN, steps=3, persistent=persistent, weight_decay=0.1)
    whole, gradients, ends = learning.step(it, model, learning.batch(it, data(), real=real))
    rows = SLOTS // replicas
    parts = [
        learning.step(it, model, learning.batch(it, data(), real=real, rows=slice(r * rows, (r + 1) * rows)))
        for r in range(replicas)
    ]
    assert {name: sum(part[0][name] for part in parts) for name in whole} == pytest.approx(whole, abs=1e-5)
    chains = tf.concat([part[2]["chain"] for part in parts], 0)
    assert np.array_equal(chains, ends["chain"])
    for path, gradient in gradients.items():
        assert np.allclose(sum(part[1][path] for part in parts), gradient, atol=1e-5), path


def test_validation_s_shares_add_over_replicas_and_rows_without_an_example_change_nothing(
    model: RestrictedBoltzmannMachine,
) -> None:
    it = learning.objective("rbm", HIDDEN)

    def looked(rows: np.ndarray, cut: slice = slice(None)) -> dict[str, float]:
        return {
            k: float(v) for k, v in it.validate(model, learning.batch(it, rows, real=5, rows=cut)).items()
        }

    whole, halves = looked(data()), [looked(data(), cut) for cut in (slice(0, 4), slice(4, 8))]
    assert {name: halves[0][name] + halves[1][name] for name in whole} == pytest.approx(whole, abs=1e-5)
    junk = np.concatenate([data()[:5], 1 - data()[5:]])
    assert looked(junk) == pytest.approx(whole)


@pytest.mark.parametrize("persistent", [True, False])
def test_rows_without_an_example_teach_nothing(model: RestrictedBoltzmannMachine, persistent: bool) -> None:
    it = learning.objective("rbm", HIDDEN, persistent=persistent)
    junk = np.concatenate([data()[:5], 1 - data()[5:]])
    one, other = (
        learning.step(it, model, learning.batch(it, rows, real=5, step=7)) for rows in (data(), junk)
    )
    assert one[0] == pytest.approx(other[0], abs=1e-6)
    for path, gradient in one[1].items():
        assert np.allclose(gradient, other[1][path], atol=1e-6)


def test_weight_decay_adds_its_slope_and_holds_no_bias(model: RestrictedBoltzmannMachine) -> None:
    plain, decayed = (learning.objective("rbm", HIDDEN, weight_decay=w) for w in (0.0, 0.5))
    given = learning.batch(plain, data())
    without, with_decay = (learning.step(it, model, given) for it in (plain, decayed))
    kernel = np.asarray(model.kernel)
    difference = with_decay[0]["loss"] - without[0]["loss"]
    assert difference == pytest.approx(0.25 * (kernel**2).sum(), rel=1e-4)
    before, after = learning.named(without[1]), learning.named(with_decay[1])
    assert np.allclose(after["kernel"] - before["kernel"], 0.5 * kernel, atol=1e-5)
    assert np.array_equal(after["visible_bias"], before["visible_bias"])


def test_no_gradient_flows_through_the_chains(model: RestrictedBoltzmannMachine) -> None:
    it, variables = learning.objective("rbm", HIDDEN, steps=2), [w.value for w in model.trainable_variables]
    given = learning.batch(it, data())
    with tf.GradientTape() as inside:
        prepared = it.prepare(model, given)
        loss, _ = it.loss(model, prepared)
    with tf.GradientTape() as outside:
        again, _ = it.loss(model, prepared)
    for one, other in zip(inside.gradient(loss, variables), outside.gradient(again, variables), strict=True):
        assert np.array_equal(one, other)


def test_the_pseudo_likelihood_is_besag_s(model: RestrictedBoltzmannMachine) -> None:
    """The mean over many random pixels against the sum over all pixels by enumeration."""
    rows, copies = data(), 4000
    law = machines.visible_law(model)
    exact = 0.0
    for row in rows:
        for unit in range(VISIBLE):
            turned = row.copy()
            turned[unit] = 1 - turned[unit]
            own, other = law[machines.number([row])[0]], law[machines.number([turned])[0]]
            exact += np.log(own / (own + other)) / len(rows)
    it = learning.objective("rbm", HIDDEN)
    many = np.tile(rows, (copies, 1))
    found = float(it.validate(model, learning.batch(it, many))["pseudo_log_likelihood"])
    assert found == pytest.approx(exact, rel=0.03)


def test_the_reconstruction_is_the_mean_squared_error_of_one_way_up_and_down(
    model: RestrictedBoltzmannMachine,
) -> None:
    w = machines.numpy_of(model)
    up = 1 / (1 + np.exp(-(data() @ w["kernel"] + w["hidden_bias"])))
    down = 1 / (1 + np.exp(-(up @ w["kernel"].T + w["visible_bias"])))
    it = learning.objective("rbm", HIDDEN)
    found = float(it.validate(model, learning.batch(it, data()))["reconstruction"])
    assert found == pytest.approx(((data() - down) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("persistent", [True, False])
def test_learning_raises_the_exact_likelihood(persistent: bool) -> None:
    """Two patterns of six pixels: from 6 log 2 = 4.16 nats towards log 2 = 0.69."""
    machine = machines.restricted(VISIBLE, HIDDEN, scale=0.01)
    rows = np.repeat(np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], np.float32), 32, 0)
    it = learning.objective("rbm", HIDDEN, steps=5, persistent=persistent)
    memory = it.memory(shape=(VISIBLE,), slots=64, first_slot=0, global_slots=64)
    variables = {weight.path: weight.value for weight in machine.trainable_variables}

    @tf.function(autograph=False)
    def update(given: dict[str, Any]) -> Any:
        prepared = it.prepare(machine, given)
        with tf.GradientTape() as tape:
            loss, _ = it.loss(machine, prepared)
        for path, gradient in tape.gradient(loss, variables).items():
            variables[path].assign_sub(0.1 * gradient)
        return prepared["chain"]

    def likelihood() -> float:
        w = machines.numpy_of(machine)
        weights = Weights(w["kernel"], w["visible_bias"], w["hidden_bias"])
        return log_likelihood(weights, rows, enumerated(weights)).value

    before, given = likelihood(), learning.batch(it, rows)
    for number in range(400):
        given["step"] = tf.constant(number, tf.int64)
        if memory is not None:
            given |= {name: tf.constant(array) for name, array in memory.draw(number).items()}
        ends = update(given)
        if memory is not None:
            memory.keep(number, {"chain": ends.numpy()})
    assert before == pytest.approx(-6 * np.log(2), abs=0.05)
    assert likelihood() > -2.0


def test_a_model_that_is_no_boltzmann_machine_is_refused() -> None:
    custom = "model={kind: 'somebody:Else'}"
    spec = specs.parse(JOB, sets=[custom, "objective={kind: boltzmann}"])
    with pytest.raises(UserError, match="no Boltzmann machine"):
        kinds.load(spec.objective)(spec.objective, spec)


@pytest.mark.parametrize("kind", ["rbm", "dbn"])
def test_every_precision_computes_in_float32(kind: str) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        hidden = [4, 3] if kind == "dbn" else 4
        node = learning.ROWS.validate_python({"kind": kind, "hidden": hidden})
        machine = kinds.load(node)(node, (VISIBLE,))
        layer = {"layer": {"steps": 4}} if kind == "dbn" else {}
        it = learning.objective(kind, hidden, **layer)
        assert machine(data()).dtype == tf.float32
        assert {value.dtype for value in it.validate(machine, learning.batch(it, data())).values()} == {
            tf.float32
        }
        assert {g.dtype for g in learning.step(it, machine, learning.batch(it, data()))[1].values()} == {
            tf.float32
        }
    finally:
        keras.config.set_dtype_policy(before)

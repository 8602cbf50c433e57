"""General Boltzmann machines against enumeration, and deep belief networks, whose layers learn in turn."""

from __future__ import annotations

from itertools import pairwise
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
from lehr.errors import SpecError
from lehr.loop.optimizer import build as optimizer_of
from lehr.loop.step import SIGNALS, StepOptions, training_step
from lehr.models.dbn import DeepBeliefNetwork
from lehr.spec import kinds
from lehr.strategies.single import Single

SLOTS = 8
JOB = """
version: 1
name: machine
model: {kind: boltzmann, hidden: 16}
data: {kind: digits, levels: 2}
train: {global_batch: 100, duration: {steps: 30}, optimizer: {kind: sgd, learning_rate: 0.1}}
sampler: {kind: gibbs}
"""
DBN = ("model={kind: dbn, hidden: [32, 16, 8]}", "objective={kind: boltzmann, layer: {steps: 10}}")


@pytest.mark.parametrize(
    ("sets", "expected"), [((), 80 * 79 // 2 + 80), (DBN, 64 * 32 + 96 + 32 * 16 + 48 + 16 * 8 + 24)]
)
def test_a_job_has_as_many_parameters_as_the_code(sets: tuple[str, ...], expected: int) -> None:
    planned = plans.make(specs.parse(JOB, sets=list(sets)))
    node = planned.spec.model
    assert planned.parameters == kinds.load(node)(node, (8, 8, 1)).count_params() == expected


def test_the_energy_has_one_half_for_pairs_of_a_layer_and_none_across() -> None:
    """As it is usually defined. The book's has one half across, too: then its W is twice ours."""
    model = machines.connected(4, 3)
    units = machines.states(7)
    v, h = units[:, :4], units[:, 4:]
    both, biases = np.asarray(model.couplings(), np.float64), np.asarray(model.biases(), np.float64)
    L, W, J = both[:4, :4], both[:4, 4:], both[4:, 4:]  # as in the formula
    usual = -0.5 * ((v @ L) * v).sum(1) - 0.5 * ((h @ J) * h).sum(1) - ((v @ W) * h).sum(1) - units @ biases
    found = np.asarray(model.energy(tf.constant(units, tf.float32)))
    assert found == pytest.approx(usual, abs=1e-5)
    book = -0.5 * (((v @ L) * v).sum(1) + ((h @ J) * h).sum(1) + ((v @ (2 * W)) * h).sum(1)) - units @ biases
    assert found == pytest.approx(book, abs=1e-5)
    assert np.allclose(model(units.astype(np.float32)), -found)


def test_every_pair_has_one_weight_and_no_unit_is_connected_with_itself() -> None:
    """Whatever an optimizer does: Adam with decay, gradients of chains."""
    model, optimizer = machines.connected(5, 4), keras.optimizers.Adam(0.1)
    it = learning.objective("boltzmann", 4, weight_decay=0.1)
    variables = [weight.value for weight in model.trainable_variables]
    optimizer.build(model.trainable_variables)
    for number in range(3):
        _, gradients, _ = learning.step(it, model, learning.batch(it, learning.coins(SLOTS, 5), step=number))
        optimizer.apply([gradients[weight.path] for weight in model.trainable_variables], variables)
    couplings = np.asarray(model.couplings())
    assert np.array_equal(couplings, couplings.T)
    assert not np.diag(couplings).any()
    assert np.count_nonzero(couplings) == 9 * 8
    assert np.array_equal(couplings[:5, 5:], np.asarray(model.kernel))


@pytest.mark.parametrize("persistent", [True, False])
def test_the_gradient_is_that_of_the_exact_likelihood(persistent: bool) -> None:
    """Of all weights, those within a layer included; chains run until they forget where they began."""
    machine, slots = machines.connected(4, 3), 20_000
    rows = learning.coins(slots, 4, seed=2, p=0.3)
    it = learning.objective("boltzmann", 3, steps=40, settle=20, persistent=persistent)
    _, gradients, _ = learning.step(it, machine, learning.batch(it, rows))
    exact, found = machines.slopes(machine, rows), learning.named(gradients)
    assert set(found) == {"visible_pairs", "hidden_pairs", "kernel", "visible_bias", "hidden_bias"}
    for name in exact:
        assert np.abs(found[name] - exact[name]).max() < 5 * 0.71 / np.sqrt(slots), name
    assert min(np.abs(exact[name]).max() for name in ("visible_pairs", "kernel")) > 0.1
    # That the bound can fail: hidden units that have not settled.
    early = learning.objective("boltzmann", 3, steps=1, settle=1, persistent=persistent)
    _, poor, _ = learning.step(early, machine, learning.batch(early, rows))
    worst = max(np.abs(learning.named(poor)[name] - exact[name]).max() for name in exact)
    assert worst > 1.3 * 5 * 0.71 / np.sqrt(slots)


def test_shares_and_gradients_add_over_replicas() -> None:
    model, rows = machines.connected(5, 3), learning.coins(SLOTS, 5, seed=1, p=0.3)
    it = learning.objective("boltzmann", 3, steps=2, settle=3, weight_decay=0.1)

    def of(cut: slice = slice(None)) -> tuple[Any, Any, Any, dict[str, float]]:
        given = learning.batch(it, rows, real=5, rows=cut)
        return *learning.step(it, model, given), {k: float(v) for k, v in it.validate(model, given).items()}

    whole, parts = of(), [of(slice(0, 4)), of(slice(4, 8))]
    for place in (0, 3):
        summed = {name: sum(part[place][name] for part in parts) for name in whole[place]}
        assert summed == pytest.approx(whole[place], abs=1e-4)
    assert np.array_equal(tf.concat([part[2]["chain"] for part in parts], 0), whole[2]["chain"])
    for path, gradient in whole[1].items():
        assert np.allclose(sum(part[1][path] for part in parts), gradient, atol=1e-5), path


def test_the_pseudo_likelihood_is_that_of_enumeration() -> None:
    """Though the hidden units do not sum out: chains in which the pixel moves, too."""
    model, rows = machines.connected(4, 3), learning.coins(SLOTS, 4, seed=1, p=0.4)
    law, exact = machines.visible_law(model), 0.0
    for row in rows:
        for unit in range(4):
            turned = row.copy()
            turned[unit] = 1 - turned[unit]
            own, other = law[machines.number([row])[0]], law[machines.number([turned])[0]]
            exact += np.log(own / (own + other)) / len(rows)
    it = learning.objective("boltzmann", 3, settle=60)
    found = float(it.validate(model, learning.batch(it, np.tile(rows, (150, 1))))["pseudo_log_likelihood"])
    assert found == pytest.approx(exact, rel=0.06)


# --- deep belief networks -------------------------------------------------------------------------


def deep(hidden: tuple[int, ...] = (5, 4), visible: int = 6) -> DeepBeliefNetwork:
    keras.utils.set_random_seed(3)
    return DeepBeliefNetwork(SimpleNamespace(hidden=hidden), (visible,))


class Course:
    """Training steps of a stack, as the platform makes them."""

    def __init__(self, model: Any, optimizer: dict[str, Any], **objective: Any) -> None:
        hidden = tuple(machine.hidden for machine in getattr(model, "stack", [model]))
        stacked = hasattr(model, "stack")
        layer = {"layer": {"steps": 4}} if stacked else {}
        self.it = learning.objective(
            "dbn" if stacked else "rbm", list(hidden) if stacked else hidden[0], **layer, **objective
        )
        node = SimpleNamespace(
            kind=optimizer["kind"],
            model_dump=lambda exclude: {k: v for k, v in optimizer.items() if k != "kind"},
        )
        self.model, self.optimizer = model, optimizer_of(node)
        self.optimizer.build(model.trainable_variables)
        self.rows = learning.coins(SLOTS, 6, seed=1, p=0.3)
        self.memory = self.it.memory(shape=(6,), slots=SLOTS, first_slot=0, global_slots=SLOTS)
        options = StepOptions(xla=False, clip=None, loss_scale=None)
        self.program = training_step(model, self.it, self.optimizer, Single(), options)
        self.losses: list[float] = []

    def run(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Steps [first, last); the weights after them, by path."""
        for number in range(first, last):
            given = learning.batch(self.it, self.rows, step=number)
            if self.memory is not None:
                given |= self.memory.draw(number)
            [found] = self.program([given | {"signals": np.zeros(SIGNALS, np.float32)}])
            self.losses.append(float(found["metrics"][0]))
            if self.memory is not None:
                self.memory.keep(number, {"chain": np.asarray(found["chain"])})
        return {weight.path: weight.numpy().copy() for weight in self.model.trainable_variables}


OPTIMIZERS = [
    {"kind": "adam", "learning_rate": 0.05},
    {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["adam", "momentum", "nesterov"])
def test_only_the_layer_whose_turn_it_is_moves(optimizer: dict[str, Any]) -> None:
    """Momentum and weight decay included: both would move the layers that have been trained."""
    course = Course(deep((5, 4, 3)), optimizer, weight_decay=0.1)
    seen = [course.run(0, 0), course.run(0, 4), course.run(4, 8), course.run(8, 14)]
    for turn, (before, after) in enumerate(pairwise(seen), 1):
        for path in before:
            moved = not np.array_equal(before[path], after[path])
            assert moved == path.startswith(f"rbm_{turn}/"), (turn, path)


def test_the_first_layer_learns_as_a_machine_by_itself() -> None:
    both = deep()
    alone = machines.restricted(6, 5)
    for own, other in zip(alone.trainable_variables, both.stack[0].trainable_variables, strict=True):
        own.assign(other)
    optimizer = {"kind": "adam", "learning_rate": 0.05}
    deep_course, course = Course(both, optimizer), Course(alone, optimizer)
    start = course.memory.draw(0)["start"]
    deep_course.memory._chains[:, :5] = (
        start  # a chain's first units are those of a longer one, but for packing
    )
    deep_course.run(0, 4)
    course.run(0, 4)
    assert deep_course.losses == pytest.approx(course.losses, abs=1e-5)
    for own, other in zip(alone.trainable_variables, both.stack[0].trainable_variables, strict=True):
        assert np.allclose(own, other, atol=1e-6)


def test_the_optimizer_starts_anew_with_each_layer() -> None:
    """Adam's count of updates included: else the first updates of a later layer would be too large."""
    course = Course(deep(), {"kind": "adam", "learning_rate": 0.05})
    course.run(0, 6)
    assert int(course.optimizer.iterations) == 2
    before = course.run(6, 6)
    assert float(course.optimizer.learning_rate) == pytest.approx(0.05)
    largest = max(np.abs(before[p] - a).max() for p, a in course.run(6, 7).items())
    assert largest < 1.5 * 0.05


def test_the_last_layer_has_the_rest_of_the_steps() -> None:
    course = Course(deep(), {"kind": "sgd", "learning_rate": 0.1})
    before, after = course.run(0, 8), course.run(8, 10)
    moved = {path.split("/")[0] for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {"rbm_2"}
    assert int(course.optimizer.iterations) == 6, "it does not start anew once more"


def test_only_the_chains_of_the_layer_whose_turn_it_is_move() -> None:
    course = Course(deep(), {"kind": "sgd", "learning_rate": 0.1})
    start = course.memory.state()["chains"]
    course.run(0, 2)
    first = course.memory.state()["chains"]
    course.run(2, 4)
    course.run(4, 6)
    second = course.memory.state()["chains"]
    assert first.shape == (SLOTS, 9)
    assert np.array_equal(start[:, 5:], first[:, 5:])
    assert not np.array_equal(start[:, :5], first[:, :5])
    assert not np.array_equal(first[:, 5:], second[:, 5:])


def test_a_layer_learns_from_hidden_units_drawn_from_those_below() -> None:
    model = deep((5, 4))
    machines.scaled(model, 1.0, 0)
    it = learning.objective("dbn", [5, 4], layer={"steps": 4}, persistent=False)
    rows = np.repeat(learning.coins(1, 6, p=0.5), 20_000, 0)
    _, gradients, prepared = learning.step(it, model, learning.batch(it, rows, step=5))
    seen = np.asarray(prepared["visible"])[:20_000, :5]
    chance = 1 / (1 + np.exp(-np.asarray(model.stack[0].hidden_input(rows[:1]))[0]))
    assert set(np.unique(seen)) <= {0.0, 1.0}
    assert np.abs(seen.mean(0) - chance).max() < 5 * 0.5 / np.sqrt(20_000)
    moving = {path.split("/")[0] for path, gradient in gradients.items() if np.asarray(gradient).any()}
    assert moving == {"rbm_2"}


@pytest.mark.parametrize("turn", [1, 5])
def test_shares_and_gradients_of_a_stack_add_over_replicas(turn: int) -> None:
    model, rows = machines.scaled(deep(), 0.7, 0), learning.coins(SLOTS, 6, seed=1, p=0.3)
    it = learning.objective("dbn", [5, 4], layer={"steps": 4}, weight_decay=0.1)

    def of(cut: slice = slice(None)) -> tuple[Any, Any, Any, dict[str, float]]:
        given = learning.batch(it, rows, real=5, rows=cut, step=turn)
        return *learning.step(it, model, given), {k: float(v) for k, v in it.validate(model, given).items()}

    whole, halves = of(), [of(slice(0, 4)), of(slice(4, 8))]
    for place in (0, 3):
        summed = {name: halves[0][place][name] + halves[1][place][name] for name in whole[place]}
        assert summed == pytest.approx(whole[place], abs=1e-4)
    assert np.array_equal(tf.concat([half[2]["chain"] for half in halves], 0), whole[2]["chain"])
    for path, gradient in whole[1].items():
        assert np.allclose(halves[0][1][path] + halves[1][1][path], gradient, atol=1e-5), path


@pytest.mark.parametrize(
    ("sets", "path"),
    [
        (DBN[:1], "objective.layer"),
        ((*DBN, "train.duration={steps: 20}"), "train.duration"),
        (("objective={kind: boltzmann, layer: {steps: 10}}",), "objective.layer"),
        (("data.levels=null",), "data.levels"),
    ],
)
def test_jobs_that_cannot_be_are_refused(sets: tuple[str, ...], path: str) -> None:
    with pytest.raises(SpecError, match=path):
        plans.make(specs.parse(JOB, sets=list(sets)))

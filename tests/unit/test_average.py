"""The mean of the weights: its formula, that nothing else changes, and that a run keeps it exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import jobs
from lehr import checkpoint
from lehr.launch import admission, local
from lehr.loop import optimizer as optimizers
from lehr.loop.optimizer import AVERAGE, UPDATES, Average, averaged
from lehr.strategies.single import Single
from lehr.worker.state import named_weights

DECAY = 0.9
# The fifth batch is partial.
SETS = (
    f"train.average={DECAY}",
    "sampler.steps=4",
    "checkpoint.every={steps: 3}",
    "validation={every: {steps: 3}}",
    "samples={every: {steps: 6}, count: 2, steps: 5}",
)
# Horovod updates as one device does.
STRATEGIES = {
    "mirrored-2": "strategy={kind: mirrored, devices_per_worker: 2}",
    "multiworker-2": "strategy={kind: multiworker, workers: 2}",
}


class Sgd:
    """The spec's node, as far as the optimizer's builder reads it."""

    kind = "sgd"

    def model_dump(self, exclude: set[str]) -> dict[str, float]:
        return {"learning_rate": 0.002}


class Trial:
    """A small network whose steps follow given gradients; a step may be left out, as loss scaling does."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(3)
        layers = [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3, name="first")]
        self.model = keras.Sequential(layers)
        self.optimizer = optimizers.build(Sgd())
        self.optimizer.build(self.model.trainable_variables)
        self.average = Average({n: v for n, v in named_weights(self.model).items() if v.trainable}, DECAY)
        self.step = Single().compile(self._step, name="step")
        self.seen: list[dict[str, np.ndarray]] = []

    def run(self, *, finite: bool = True) -> None:
        self.step([{"x": np.arange(8, dtype=np.float32).reshape(2, 4), "finite": np.bool_(finite)}])
        if finite:
            self.seen.append(self.weights())

    def weights(self) -> dict[str, np.ndarray]:
        return {name: np.array(v.numpy()) for name, v in named_weights(self.model).items()}

    def means(self) -> dict[str, np.ndarray]:
        return {name: v.numpy() for name, v in self.average.variables.items()}

    def _step(self, batch: dict[str, Any]) -> dict[str, Any]:
        variables = [v.value for v in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.model(batch["x"]) ** 2)
        gradients = tape.gradient(loss, variables)
        optimizers.apply_if(batch["finite"], self.optimizer, gradients, variables, Single())
        self.average.update(batch["finite"])
        return {"loss": loss}


def test_it_is_the_mean_of_the_weights_after_each_update() -> None:
    """Weighted by decay^(t - i); what came before the first update counts for nothing."""
    trial = Trial()
    for updates in range(1, 8):
        trial.run()
        ages = DECAY ** np.arange(updates - 1, -1, -1)
        for name in trial.average._weights:
            expected = np.average([seen[name] for seen in trial.seen], axis=0, weights=ages)
            np.testing.assert_allclose(trial.means()[AVERAGE + name], expected, rtol=1e-5, atol=1e-7)
    assert trial.means()[UPDATES] == 7
    moved = [np.ptp([seen[name] for seen in trial.seen], axis=0).max() for name in trial.average._weights]
    assert max(moved) > 0.01, "the weights stay: the test shows nothing"


def test_an_update_that_is_left_out_does_not_count() -> None:
    trial = Trial()
    trial.run(finite=False)
    assert trial.means()[UPDATES] == 0
    trial.run()
    before = trial.means()
    trial.run(finite=False)
    assert all(np.array_equal(before[name], value) for name, value in trial.means().items())


def test_the_means_are_lent_and_taken_back_to_the_bit() -> None:
    trial = Trial()
    start = trial.weights()
    with trial.average.lent():
        assert all(np.array_equal(start[name], value) for name, value in trial.weights().items())
    trial.run()
    trial.run()
    own, means = trial.weights(), trial.means()
    with trial.average.lent():
        lent = trial.weights()
    assert all(np.array_equal(own[name], value) for name, value in trial.weights().items())
    for name, value in lent.items():  # moments of the batch normalisation stay its own
        assert np.array_equal(value, means.get(AVERAGE + name, own[name]))
    assert not np.array_equal(lent["first/kernel"], own["first/kernel"])


def test_a_checkpoint_s_weights_to_draw_with() -> None:
    weights = {"a": np.zeros(2), "moment": np.ones(1)}
    means = {AVERAGE + "a": np.full(2, 5.0), UPDATES: np.int64(3), "0001/a_momentum": np.ones(2)}
    chosen = averaged(weights, means)
    assert chosen["a"].tolist() == [5.0, 5.0]
    assert chosen["moment"].tolist() == [1.0]
    assert averaged(weights, {})["a"].tolist() == [0.0, 0.0], "a run without a mean"
    assert averaged(weights, means | {UPDATES: np.int64(0)})["a"].tolist() == [0.0, 0.0], "no update yet"


def test_a_loss_scale_s_skip_reaches_it() -> None:
    """The step itself, with a scale that overflows at first."""
    from lehr.loop.step import StepOptions, _update

    trial, scale = Trial(), optimizers.LossScale()
    options = StepOptions(xla=False, clip=None, loss_scale=scale, average=trial.average)
    variables = [v.value for v in trial.model.trainable_variables]

    def step(batch: dict[str, Any]) -> dict[str, Any]:
        gradients = [tf.ones_like(v) * batch["size"] * scale.scale for v in variables]
        _update(trial.optimizer, gradients, variables, Single(), options)
        return {"done": tf.constant(1)}

    program = Single().compile(step, name="step")
    for size, counted in ((np.inf, 0), (np.nan, 0), (1.0, 1)):
        before = trial.means()
        program([{"size": np.float32(size)}])
        assert trial.means()[UPDATES] == counted
        assert counted or all(np.array_equal(before[name], value) for name, value in trial.means().items())


def trained(folder: Path, *sets: str, run_id: str = "run", steps: int = 6) -> checkpoint.State:
    plan = jobs.plan(jobs.EBM, *SETS, f"train.duration={{steps: {steps}}}", *sets, run_id=run_id)
    storage = jobs.storage(folder)
    admission.prepare(plan, storage.below(plan.run_id))
    outcome = local.spawn(plan, storage)
    assert (outcome.status, outcome.step) == ("completed", steps)
    return jobs.final(storage.below(run_id))[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def alone(folder: Path) -> checkpoint.State:
    return trained(folder)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_the_same_mean(strategy: str, alone: checkpoint.State, tmp_path: Path) -> None:
    state = trained(tmp_path, STRATEGIES[strategy])
    names = [name for name in alone.optimizer if name.startswith(AVERAGE)]
    assert len(names) == len(alone.weights)
    assert state.optimizer[UPDATES] == alone.optimizer[UPDATES] == 6
    for name in names:
        np.testing.assert_allclose(state.optimizer[name], alone.optimizer[name], rtol=1e-3, atol=1e-6)
        assert not np.array_equal(alone.optimizer[name], alone.weights[name.removeprefix(AVERAGE)])


@pytest.mark.system
@pytest.mark.slow
def test_a_run_goes_on_with_its_mean_to_the_bit(alone: checkpoint.State, tmp_path: Path) -> None:
    trained(tmp_path, steps=3)
    state = trained(tmp_path, steps=6)
    for name, array in {**alone.weights, **alone.optimizer}.items():
        assert np.array_equal({**state.weights, **state.optimizer}[name], array), name


@pytest.mark.system
@pytest.mark.slow
def test_validation_and_samples_are_the_mean_s(alone: checkpoint.State, folder: Path) -> None:
    """Against the same run without one: training is the same, what is seen of it is not."""
    other = trained(folder, "train.average=null", run_id="without")
    assert all(np.array_equal(alone.weights[name], array) for name, array in other.weights.items())
    runs = [jobs.storage(folder).below(run) for run in ("run", "without")]
    for (_, one), (_, two) in zip(*map(jobs.story, runs), strict=True):
        for name, value in one.items():
            assert (value == two[name]) != name.startswith("validation/"), name
    images = [run.read("samples/step-00000006/images.npy") for run in runs]
    assert images[0] != images[1]

"""The rectangle: its density, that training finds the maximum-likelihood fit, and its samples."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import jobs
from lehr import spec as specs
from lehr.data import land
from lehr.data.arrays import Arrays
from lehr.data.feed import Feed
from lehr.errors import UserError
from lehr.models.rectangle import Rectangle
from lehr.objectives.density import Density
from lehr.worker.build import network
from lehr.worker.sampling import Wanted, drawer

JOB = """
version: 1
name: rectangle
model: {kind: rectangle, slope: 300.0}
data: {kind: land, train_examples: 40, validation_examples: 30}
train: {global_batch: 16, duration: {steps: 10}, optimizer: {kind: sgd, learning_rate: 1.0e-3}}
"""


def rectangle(low: Any, high: Any, slope: float = 300.0) -> Rectangle:
    model = Rectangle(SimpleNamespace(slope=slope), (2,))
    model.low.assign(low)
    model.high.assign(high)
    return model


def batches(points: np.ndarray, *, workers: int, rows: int) -> list[dict[str, Any]]:
    """The first batch in file order, of each worker."""
    arrays, share = Arrays(points, np.zeros(len(points))), {"seed": 0, "global_batch": workers * rows}
    feeds = [Feed(arrays, first=rank * rows, rows=rows, **share) for rank in range(workers)]
    return [next(iter(feed.validation_batches())) for feed in feeds]


def descended(points: np.ndarray, slope: float, *, rate: float, steps: int) -> Rectangle:
    """A rectangle after plain gradient descent of the objective."""
    model, objective = rectangle([-0.5, -0.5], [0.5, 0.5], slope), Density(None, None)
    (batch,) = batches(points, workers=1, rows=len(points))
    batch = {name: tf.constant(value) for name, value in batch.items()}

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss, _ = objective.loss(model, batch)
        for weight, slope_of in zip(
            (model.low, model.high), tape.gradient(loss, [model.low.value, model.high.value]), strict=True
        ):
            weight.assign_sub(rate * slope_of)

    for _ in range(steps):
        step()
    return model


def test_four_parameters() -> None:
    assert rectangle([0, 0], [1, 1]).count_params() == 4 == specs.parse(JOB).model.parameters((2,))


def test_the_density_is_one_over_the_area_inside_and_zero_outside() -> None:
    model = rectangle([-0.5, 0.0], [0.7, 0.5])
    points = tf.constant([[0.0, 0.1], [-0.5, 0.5], [0.71, 0.1], [0.0, -0.01], [5.0, 5.0]])
    told = model.log_probability(points).numpy()
    assert told[:2] == pytest.approx(-math.log(1.2 * 0.5))
    assert (told[2:] == -np.inf).all()
    assert np.array_equal(model(points), told)


@pytest.mark.parametrize("slope", [3.0, 30.0])
def test_with_flanks_it_is_still_a_density(slope: float) -> None:
    model, edge = rectangle([-0.5, 0.0], [0.7, 0.5], slope), 6.0
    axis = (np.arange(1200) + 0.5) * 2 * edge / 1200 - edge
    x, y = np.meshgrid(axis, axis)
    log_q = model.log_probability(tf.constant(np.stack([x, y], -1).reshape(-1, 2), tf.float32), training=True)
    assert float(np.exp(log_q.numpy().astype(np.float64)).mean()) * (2 * edge) ** 2 == pytest.approx(
        1, abs=5e-3
    )


def test_flanks_fall_by_the_slope_and_vanish_as_it_grows() -> None:
    inside, outside = tf.constant([[0.1, 0.1]]), tf.constant([[0.9, 0.1]])  # 0.2 beyond the right edge
    model = rectangle([-0.5, 0.0], [0.7, 0.5], 40.0)
    told = [float(model.log_probability(x, training=True)[0]) for x in (inside, outside)]
    assert told[0] - told[1] == pytest.approx(40 * 0.2, rel=1e-5)
    steep = rectangle([-0.5, 0.0], [0.7, 0.5], 1e6)
    assert float(steep.log_probability(inside, training=True)[0]) == pytest.approx(-math.log(0.6), abs=1e-4)


def test_training_finds_the_smallest_rectangle_that_holds_all_points() -> None:
    """Where slope x width + 2 exceeds the number of points; to a step, rate x slope / n for each."""
    points, rate = land.points(0, 0, 100), 1e-3
    model = descended(points, slope=300.0, rate=rate, steps=1500)
    reach = 2 * rate * 300.0 / 100
    assert np.allclose(model.low.numpy(), points.min(axis=0), atol=reach)
    assert np.allclose(model.high.numpy(), points.max(axis=0), atol=reach)


def test_a_smaller_slope_leaves_out_a_known_share_at_each_edge() -> None:
    """1 / (slope x width + 2)."""
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (2000, 2)).astype(np.float32)
    model = descended(points, slope=10.0, rate=0.02, steps=400)
    width = model.high.numpy() - model.low.numpy()
    expected = 1 / (10.0 * width + 2)
    assert np.allclose((points < model.low.numpy()).mean(axis=0), expected, atol=0.006)
    assert np.allclose((points > model.high.numpy()).mean(axis=0), expected, atol=0.006)
    # of a uniform law on [-0.8, 0.8]: w = 1.6 (1 - 2 s) with s = 1 / (10 w + 2)
    assert np.allclose(width, 1.6 * (1 - 2 * expected), atol=0.02)


def test_a_rectangle_turned_inside_out_recovers() -> None:
    model = descended(land.points(0, 0, 50), slope=300.0, rate=1e-3, steps=1)
    model.low.assign([0.3, 0.3])
    model.high.assign([-0.3, -0.3])
    assert float(model.log_probability(tf.constant([[0.0, 0.0]]))[0]) == -math.inf
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.log_probability(tf.constant(land.points(0, 0, 50)), training=True))
    low, high = tape.gradient(loss, [model.low.value, model.high.value])
    assert math.isfinite(float(loss))
    assert (low.numpy() > 0).all()  # descended: the lower edges go down
    assert (high.numpy() < 0).all()


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_shares_and_gradients_add_over_replicas(workers: int) -> None:
    """17 points in a global batch of 24: the last rows hold none, and may not count."""
    model, objective, points = rectangle([-0.3, -0.3], [0.6, 0.6]), Density(None, None), land.points(0, 0, 17)
    weights = [model.low.value, model.high.value]

    def of(batch: dict[str, Any]) -> tuple[list[np.ndarray], np.ndarray]:
        with tf.GradientTape() as tape:
            loss, shares = objective.loss(model, batch)
        assert list(shares) == list(objective.metrics)
        return tape.gradient(loss, weights), float(loss)

    whole = of(batches(points, workers=1, rows=24)[0])
    parts = [of(batch) for batch in batches(points, workers=workers, rows=24 // workers)]
    assert sum(loss for _, loss in parts) == pytest.approx(whole[1], rel=1e-5)
    for number in range(2):
        assert np.allclose(sum(gradient[number] for gradient, _ in parts), whole[0][number], rtol=1e-4)
    expected = -np.mean(model.log_probability(tf.constant(points), training=True))
    assert whole[1] == pytest.approx(float(expected), rel=1e-5)


def test_held_out_points_are_judged_by_the_true_density() -> None:
    points = np.array([[0.0, 0.0], [0.5, 0.5], [0.2, 0.9]], np.float32)
    model, objective = rectangle([-1, -1], [1, 1]), Density(None, None)

    def validated(model: Rectangle) -> dict[str, float]:
        parts = [objective.validate(model, batch) for batch in batches(points, workers=2, rows=2)]
        assert list(parts[0]) == list(objective.validation_metrics)
        return {name: float(sum(part[name] for part in parts)) for name in parts[0]}

    told = validated(model)
    assert told["log_likelihood"] == pytest.approx(-math.log(4))
    assert told["outside"] == 0.0
    told = validated(rectangle([-1, -1], [1, 0.6]))
    assert told["log_likelihood"] == -math.inf
    assert told["outside"] == pytest.approx(1 / 3)
    assert math.isfinite(told["loss"])
    # A row without an example repeats the first one: outside here, and not counted.
    alone = batches(np.array([[0.9, 0.9]], np.float32), workers=1, rows=2)[0] | {
        "weight": np.zeros(2, np.float32)
    }
    assert float(objective.validate(rectangle([0, 0], [0.5, 0.5]), alone)["log_likelihood"]) == 0.0


def test_the_spec_knows_the_metrics() -> None:
    row = specs.parse(JOB).objective
    assert (row.kind, row.metrics, row.validation_metrics) == (
        "density", Density.metrics, Density.validation_metrics,
    )  # fmt: skip


def test_samples_fill_the_rectangle_and_depend_on_seed_and_number_alone() -> None:
    plan = jobs.plan(JOB)
    model = network(plan, (2,))
    model.low.assign([-0.9, -0.4])
    model.high.assign([0.1, 0.8])
    drawn = drawer(plan, model, {}).draw(Wanted(count=4000, seed=1))
    points = drawn.arrays["points"]
    assert (points >= [-0.9, -0.4]).all()
    assert (points <= [0.1, 0.8]).all()
    unit = (points - [-0.9, -0.4]) / [1.0, 1.2]
    assert np.allclose(unit.mean(axis=0), 0.5, atol=0.03)
    assert np.allclose(unit.var(axis=0), 1 / 12, atol=0.005)
    assert abs(np.corrcoef(unit.T)[0, 1]) < 0.06
    fewer = drawer(plan, model, {}).draw(Wanted(count=7, seed=1)).arrays["points"]
    assert np.array_equal(fewer, points[:7])
    other = drawer(plan, model, {}).draw(Wanted(count=7, seed=2)).arrays["points"]
    assert not np.array_equal(other, fewer)
    assert list(drawn.pictures) == ["map"]
    assert drawn.facts["rectangle"] == pytest.approx([-162, 18, -36, 72], abs=1e-4)
    share = (land.on_land(points)).mean()
    assert drawn.facts["share_in_the_sea"] == pytest.approx(1 - share)


def test_images_are_refused() -> None:
    land_data = "{kind: land, train_examples: 40, validation_examples: 30}"
    with pytest.raises(UserError, match="points in the plane"):
        jobs.plan(JOB.replace(land_data, "{kind: digits}"))
    with pytest.raises(UserError, match="points in the plane"):
        Rectangle(SimpleNamespace(slope=1.0), (8, 8, 1))

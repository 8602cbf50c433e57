"""Points on land, and what is told of models of them: where each of the book's points A, B and C lies."""

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
from lehr.errors import UserError
from lehr.figures.points import Map
from lehr.figures.points import points as picture
from lehr.models.ebm import EnergyModel
from lehr.plan import Plan
from lehr.worker import points
from lehr.worker.build import network
from lehr.worker.sampling import Wanted, drawer

TRAIN = "train: {global_batch: 8, duration: {steps: 1}, optimizer: {kind: sgd, learning_rate: 1.0e-3}}\n"
CHAINS = (
    "{kind: langevin, steps: 3, step_size: 0.005, acceptance: true, gradient_clip: null, buffer: {size: 8}}"
)


def text(model: str, more: str = "") -> str:
    data = "data: {kind: land, train_examples: 20, validation_examples: 30}\n"
    return f"version: 1\nname: x\nmodel: {model}\n{data}{TRAIN}{more}"


def plan(model: str, more: str = "") -> Plan:
    return jobs.plan(text(model, more))


def place(longitude: float, latitude: float) -> np.ndarray:
    return np.array([[longitude / 180, latitude / 90]])


def test_the_data_is_where_the_land_is() -> None:
    node = SimpleNamespace(seed=3, examples=lambda: (20_000, 10))
    arrays = land.load(node, "train")
    assert arrays.input.shape == (20_000, 2)
    assert arrays.input.dtype == np.float32
    assert arrays.shape == (2,)
    assert land.on_land(arrays.input).all()
    assert len(land.load(node, "validation")) == 10


def test_it_is_uniform_over_the_land() -> None:
    boxes = int(land.MASK.sum())
    drawn = land.points(0, 0, 100 * boxes)
    columns = np.floor((drawn[:, 0] + 1) / 2 * 72).astype(int)
    rows = np.floor((1 - drawn[:, 1]) / 2 * 36).astype(int)
    counts = np.zeros(land.MASK.shape)
    np.add.at(counts, (rows, columns), 1)
    assert counts[~land.MASK].sum() == 0
    chi_square = float(np.square(counts[land.MASK] - 100).sum() / 100)
    assert abs(chi_square - (boxes - 1)) < 5 * math.sqrt(2 * (boxes - 1))
    within = (drawn[:, 0] + 1) / 2 * 72 % 1.0  # and inside of each box
    assert abs(within.mean() - 0.5) < 5 / math.sqrt(12 * len(drawn))


def test_a_point_depends_on_its_number_its_split_and_the_seed_alone() -> None:
    some = land.points(0, 0, 10)
    assert np.array_equal(land.points(0, 0, 300)[:10], some)
    assert not np.array_equal(land.points(0, 1, 10), some)
    assert not np.array_equal(land.points(1, 0, 10), some)


@pytest.mark.parametrize(
    ("longitude", "latitude", "expected"),
    [(12, 23, True), (100, 60, True), (-100, 40, True), (-57, -12, True), (134, -26, True), (-150, 0, False),
     (-30, 35, False), (80, -20, False), (0, -85, False), (180, 66, True), (180.1, 66, False),
     (0, -90, False), (0, 90.1, False)],
)  # fmt: skip
def test_known_places(longitude: float, latitude: float, expected: bool) -> None:
    """Sahara, Siberia, Nebraska, Mato Grosso, Australia; oceans, Antarctica (left out), off the map."""
    assert land.on_land(place(longitude, latitude)).tolist() == [expected]


def test_the_area_is_that_of_the_mask() -> None:
    grid = np.random.default_rng(0).uniform(-1, 1, (200_000, 2))
    assert land.on_land(grid).mean() * land.MAP_AREA == pytest.approx(land.AREA, abs=0.02)


# --- what is told of a model ---------------------------------------------------------------------------


def uniform_in(west: float, east: float, south: float, north: float) -> points.LogDensity:
    area = (east - west) / 180 * (north - south) / 90

    def log_density(places: np.ndarray) -> np.ndarray:
        longitude, latitude = 180 * places[:, 0], 90 * places[:, 1]
        inside = (longitude >= west) & (longitude <= east) & (latitude >= south) & (latitude <= north)
        return np.where(inside, -math.log(area), -np.inf)

    return log_density


def test_the_book_s_points_a_b_and_c() -> None:
    """A: generated, in the sea. B: land, cannot be generated. C: possible under both."""
    model = plan("{kind: rectangle}")
    samples = np.concatenate([place(-30, 30), place(-12, 19), place(100, 60), place(38, 11)]).astype(
        np.float32
    )
    _, facts = points.told(model, samples, uniform_in(-60, 180, 0, 80), edges=(-1 / 3, 1.0, 0.0, 8 / 9))
    assert facts["in_the_sea"] == 1  # the second is in the box of Western Sahara
    assert facts["share_in_the_sea"] == 0.25
    assert facts["marks"]["A"] == [-30, 30]
    assert facts["marks"]["C"] == [100, 60]
    b = np.array(facts["marks"]["B"])
    assert land.on_land(place(*b)).all()
    assert b[0] < -150  # Alaska and Patagonia are farthest from it
    assert facts["rectangle"] == pytest.approx([-60, 180, 0, 80])


def test_coverage_and_likelihood() -> None:
    model = plan("{kind: rectangle}")
    samples = place(100, 60).astype(np.float32)
    whole = points.told(model, samples, uniform_in(-180, 180, -90, 90))[1]
    assert whole["coverage_of_land"] == 1.0
    assert whole["log_likelihood"] == pytest.approx(-math.log(4))
    assert (
        whole["log_likelihood"] < whole["log_likelihood_of_the_land"] == pytest.approx(-math.log(land.AREA))
    )
    assert whole["held_out_outside"] == 0.0
    assert sorted(whole["marks"]) == ["C"]  # no sample in the sea, and no land that is not covered
    half = points.told(model, samples, uniform_in(0, 180, -90, 90))[1]
    assert half["coverage_of_land"] == pytest.approx(land.MASK[:, 36:].sum() / land.MASK.sum())
    held_out = land.points(0, 1, 30)
    assert half["held_out_outside"] == pytest.approx((held_out[:, 0] < 0).mean())
    assert half["log_likelihood"] == -math.inf


def test_an_energy_s_constant_is_found_by_integration() -> None:
    flat = points.of_energy(lambda places, training: tf.zeros([len(places)]) + 7.0)
    assert flat(place(0, 0).astype(np.float32)) == pytest.approx(-math.log(4))
    round_about = points.of_energy(lambda places, training: 3.0 - tf.reduce_sum(places**2, axis=1) / 0.02)
    at = round_about(np.array([[0.0, 0.0], [0.1, 0.2]], np.float32))
    assert at == pytest.approx([-math.log(2 * math.pi * 0.01), -math.log(2 * math.pi * 0.01) - 2.5], abs=1e-4)


def test_the_picture() -> None:
    some = land.points(0, 0, 5)
    shown = Map(some, some, np.array([True] * 3 + [False] * 2), marks={"A": some[0].tolist()}, title="x")
    png = picture(shown)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture(shown) == png
    reached = np.zeros((36, 72), bool)
    reached[10:20, 10:20] = True
    assert picture(Map(some, some, np.ones(5, bool), ground=land.MASK, reached=reached)) != png


# --- the energy-based model on points --------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [16, (16,), (16, 8), (8, 8, 8)])
def test_an_energy_of_points_and_its_slope(hidden: Any) -> None:
    tf.random.set_seed(1)
    model = EnergyModel(SimpleNamespace(filters=(), hidden=hidden), (2,))
    node = specs.parse(
        text(f"{{kind: ebm, filters: [], hidden: {_yaml(hidden)}}}", f"sampler: {CHAINS}\n")
    ).model
    assert model.count_params() == node.parameters((2,))
    x = tf.random.stateless_uniform((5, 2), (1, 2), -1.0, 1.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        energy = -model(x)
    by_hand = model._slope_by_hand()(x)
    assert np.allclose(by_hand[0], energy, rtol=1e-6, atol=1e-6)
    assert np.allclose(by_hand[1], tape.gradient(energy, x), rtol=1e-5, atol=1e-6)


def _yaml(hidden: Any) -> str:
    return str(list(hidden)) if isinstance(hidden, tuple) else str(hidden)


def test_one_number_of_hidden_units_is_one_layer() -> None:
    names = []
    for hidden in (16, (16,)):
        model = EnergyModel(SimpleNamespace(filters=(4,), hidden=hidden), (8, 8, 1))
        names.append([weight.path for weight in model.trainable_variables])
    assert names[0] == names[1]
    assert names[0][2:4] == ["ebm/dense_1/kernel", "ebm/dense_1/bias"]


def test_convolutions_do_not_take_points() -> None:
    with pytest.raises(UserError, match=r"images.*model\.filters: \[\]"):
        EnergyModel(SimpleNamespace(filters=(16,), hidden=16), (2,))
    with pytest.raises(UserError, match="images"):
        plan("{kind: ebm}", f"sampler: {CHAINS}\n")


@pytest.mark.parametrize("hidden", ["[]", "0", "[16, 0]", "many", "1.5", "true"])
def test_hidden_is_a_number_or_a_list_of_them(hidden: str) -> None:
    with pytest.raises(UserError, match=r"model\.hidden"):
        specs.parse(text(f"{{kind: ebm, filters: [], hidden: {hidden}}}", f"sampler: {CHAINS}\n"))


def test_chains_of_points_are_drawn_on_the_map() -> None:
    whole = plan("{kind: ebm, filters: [], hidden: [8, 8]}", f"sampler: {CHAINS}\n")
    drawn = drawer(whole, network(whole, (2,)), {}).draw(Wanted(count=6, seed=0, steps=12))
    assert drawn.arrays["points"].shape == (6, 2)
    assert np.abs(drawn.arrays["points"]).max() <= 1.0
    assert sorted(drawn.pictures) == ["energy", "map"]
    assert {"coverage_of_land", "log_likelihood", "share_in_the_sea", "frame_steps"} <= set(drawn.facts)

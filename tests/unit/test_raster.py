"""Drawing pixel by pixel: what a scan computes is what the whole network computes, and draws follow it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from lehr import plan as plans
from lehr import spec as specs
from lehr.dynamics.raster import GROUP, Raster
from lehr.models.pixelcnn import PixelCNN
from lehr.worker.raster import Raster as Drawer
from lehr.worker.sampling import Wanted

Shape = tuple[int, int, int]


def network(
    shape: Shape, *, filters: int = 8, blocks: int = 2, levels: int = 4, sharp: float = 4.0
) -> PixelCNN:
    """With biases, and with logits far enough apart for a draw to be no coin's toss."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(7)
    model = PixelCNN(SimpleNamespace(filters=filters, blocks=blocks, levels=levels), shape)
    for weight in model.trainable_variables:
        if "bias" in weight.path:
            weight.assign(rng.normal(size=weight.shape) * 0.3)
    model.logits.kernel.assign(model.logits.kernel * sharp)
    return model


SHAPES: list[tuple[Shape, int, int, int]] = [
    ((8, 8, 1), 8, 2, 4),
    ((5, 9, 1), 7, 1, 2),
    ((9, 2, 1), 2, 3, 16),
    ((1, 6, 1), 8, 2, 256),
    ((6, 1, 1), 8, 2, 3),
]


@pytest.mark.parametrize(("shape", "filters", "blocks", "levels"), SHAPES)
def test_every_pixel_s_logits_are_those_of_the_whole_network(
    shape: Shape, filters: int, blocks: int, levels: int
) -> None:
    model = network(shape, filters=filters, blocks=blocks, levels=levels)
    images, logits = Raster(model, seed=3).draw(GROUP + 3)
    assert images.shape == (GROUP + 3, *shape)
    assert logits.shape == (GROUP + 3, *shape[:2], levels)
    assert set(np.unique(images)) <= set(range(levels))
    assert len(np.unique(images)) > 1
    np.testing.assert_allclose(logits, model(images), atol=2e-5)


def test_xla_computes_the_same() -> None:
    model = network((4, 5, 1), blocks=1)
    images, logits = Raster(model, seed=3, xla=True).draw(3)
    np.testing.assert_allclose(logits, model(images), atol=2e-5)


@pytest.fixture(scope="module")
def raster() -> Raster:
    return Raster(network((8, 8, 1)), seed=3)


def test_sample_i_is_the_same_among_any_number(raster: Raster) -> None:
    images, logits = raster.draw(2 * GROUP + 1)
    for count, first in [(1, 0), (5, 0), (3, 7), (GROUP, GROUP), (2, 2 * GROUP - 1)]:
        again, heard = raster.draw(count, first=first)
        assert np.array_equal(again, images[first : first + count])
        np.testing.assert_allclose(heard, logits[first : first + count], atol=1e-5)
    assert len(np.unique(images, axis=0)) == 2 * GROUP + 1
    other, _ = Raster(raster._model, seed=4).draw(1)
    assert not np.array_equal(other[0], images[0])


def test_temperature_zero_takes_the_likeliest(raster: Raster) -> None:
    images, logits = raster.draw(3, temperature=0.0)
    assert np.array_equal(images[..., 0], logits.argmax(axis=-1))
    assert np.array_equal(images[0], images[2])


def test_weights_are_read_at_each_draw() -> None:
    model = network((3, 3, 1), blocks=1)
    raster = Raster(model, seed=0)
    raster.draw(1)
    model.logits.bias.assign([0.0, 0.0, 1e4, 0.0])
    assert (raster.draw(2)[0] == 2.0).all()


def cooled(log_p: np.ndarray, temperature: float) -> np.ndarray:
    """p ** (1 / T), normalised over the last axis."""
    p = np.exp(log_p.astype(np.float64) / temperature)
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_have_the_model_s_distribution(temperature: float) -> None:
    """All 81 images of 2x2 in three levels, by enumeration; chi-square over those expected five times."""
    model, levels, count = network((2, 2, 1), blocks=1, levels=3, sharp=2.0), 3, 4000
    everything = np.array(list(itertools.product(range(levels), repeat=4)), np.float32).reshape(-1, 2, 2, 1)
    p = cooled(np.asarray(model(everything)), temperature)
    expected = count * np.take_along_axis(p, everything.astype(int), axis=-1).prod(axis=(1, 2, 3))
    assert expected.sum() == pytest.approx(count)
    images, _ = Raster(model, seed=1).draw(count, temperature=temperature)
    numbers = images.reshape(count, 4).astype(int) @ levels ** np.arange(3, -1, -1)
    found = np.bincount(numbers, minlength=len(everything))
    often = expected >= 5
    chi = ((found - expected)[often] ** 2 / expected[often]).sum()
    freedom = often.sum() - 1
    assert freedom > 10
    assert chi < freedom + 5 * np.sqrt(2 * freedom)


def test_no_chance_leads_to_a_level_of_probability_zero() -> None:
    scan = network((2, 2, 1)).scan()
    logits = np.array([[0.0, -np.inf, 0.0, -np.inf], [-np.inf, 1.0, -np.inf, -np.inf]], np.float32)
    for chance, levels in [
        (0.0, [0, 1]),
        (0.5, [2, 1]),
        (np.nextafter(np.float32(1), np.float32(0)), [2, 1]),
    ]:
        drawn = scan.draw(logits, np.full([2, 1], chance, np.float32), 1.0)
        assert np.array_equal(drawn[:, 0], levels)


JOB = """\
version: 1
name: x
model: {kind: pixelcnn, filters: 4, blocks: 1, levels: 4}
data: {kind: digits, levels: 4}
train: {global_batch: 4, duration: {steps: 1}, optimizer: {kind: adam, learning_rate: 1.0e-4}}
samples: {every: {steps: 1}, count: 5, temperature: 0.5}
"""


def test_a_run_s_samples_are_whole_levels_and_a_picture() -> None:
    plan = plans.make(specs.parse(JOB))
    drawer = Drawer(plan, network((8, 8, 1)), {})
    drawn = drawer.draw(Wanted.of(plan))
    images = drawn.arrays["images"]
    assert drawn.count == 5
    assert np.array_equal(images, Raster(network((8, 8, 1)), seed=0).draw(5, temperature=0.5)[0])
    assert drawn.pictures["grid"].startswith(b"\x89PNG")
    assert 0.0 < drawn.facts["bits_per_dimension"] < 4.0
    assert np.array_equal(drawer.draw(Wanted.of(plan, count=2)).arrays["images"], images[:2])
    assert not np.array_equal(drawer.draw(Wanted.of(plan, seed=9)).arrays["images"], images)

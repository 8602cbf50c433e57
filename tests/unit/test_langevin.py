"""The chain: the order of its steps, its physics, and that it has none of the defects of the book's code."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr import spec as specs
from lehr.dynamics.langevin import Address, Rule, chains, ends, slope_of, trajectory
from lehr.dynamics.noise import CHAIN_STEPS, Noise
from lehr.dynamics.samples import MARKS, Sampler, marks
from lehr.errors import UserError
from lehr.models.ebm import EnergyModel
from lehr.seeds import Purpose

IMAGE = (8, 8, 1)
NOISE = Noise(2, Purpose.CHAIN_NOISE)
BOOK = Rule(step_size=10.0, noise=0.005, gradient_clip=0.03)
STILL = Rule(step_size=0.01, noise=0.0, gradient_clip=None)


def bowl(curvature: float) -> Callable[[Any], tuple[Any, Any]]:
    """E = curvature |x|^2 / 2, over any number of elements."""

    def slope(images: Any) -> tuple[Any, Any]:
        axes = list(range(1, images.shape.rank))
        return curvature * tf.reduce_sum(images**2, axes) / 2, curvature * images

    return slope


def uphill(images: Any) -> tuple[Any, Any]:
    """Gradient 1 everywhere."""
    return tf.reduce_sum(images, [1, 2, 3]), tf.ones_like(images)


@pytest.fixture(scope="module")
def model() -> EnergyModel:
    tf.random.set_seed(0)
    return EnergyModel(SimpleNamespace(filters=(4, 8), hidden=8), IMAGE)


def noise_images(rows: int, *, seed: int = 0) -> Any:
    return Noise(seed, Purpose.SAMPLE_START).uniform((rows, *IMAGE), step=0, k=0, first=0)


def compiled(slope: Any, start: Any, rule: Rule, *, steps: Any, **options: Any) -> np.ndarray:
    program = tf.function(lambda x: chains(slope, x, rule, Address(NOISE, 3), steps=steps, **options))
    return np.asarray(program(start))


@pytest.mark.parametrize("steps", [0, 1, 7, 60])
def test_every_step_is_taken(steps: int) -> None:
    """The book returns from inside the loop, after one step."""
    end = compiled(uphill, tf.ones((2, *IMAGE)), STILL, steps=steps)
    assert np.allclose(end, 1 - 0.01 * steps, atol=1e-6)


def test_the_number_of_steps_may_be_a_tensor() -> None:
    start = noise_images(2)
    fixed = compiled(bowl(0.1), start, BOOK, steps=9)
    assert np.array_equal(fixed, compiled(bowl(0.1), start, BOOK, steps=tf.constant(9)))


def test_a_step_is_noise_clip_gradient_clip_descend_clip() -> None:
    """The order of the book, by hand."""
    rule = Rule(step_size=3.0, noise=0.4, gradient_clip=0.1)
    x = np.asarray(noise_images(4))
    for k in range(5):
        x = np.clip(x + 0.4 * np.asarray(NOISE.normal((4, *IMAGE), step=3, k=k, first=0)), -1, 1)
        x = np.clip(x - 3.0 * np.clip(0.5 * x, -0.1, 0.1), -1, 1)
    assert np.allclose(compiled(bowl(0.5), noise_images(4), rule, steps=5), x, atol=1e-5)


def test_every_step_has_noise_of_its_own() -> None:
    flat = bowl(0.0)
    rule = Rule(step_size=1.0, noise=0.001, gradient_clip=None)
    end = compiled(flat, tf.zeros((64, *IMAGE)), rule, steps=100)
    assert end.std() == pytest.approx(0.001 * math.sqrt(100), rel=0.05)


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.floats(0.001, 0.05))
def test_without_noise_small_steps_never_raise_the_energy(seed: int, step_size: float) -> None:
    tf.random.set_seed(seed)
    network = EnergyModel(SimpleNamespace(filters=(4, 8), hidden=8), IMAGE)
    rule = Rule(step_size=step_size, noise=0.0, gradient_clip=0.03)
    path = trajectory(slope_of(network), noise_images(4), rule, Address(NOISE), at=(10,))
    rises = np.diff(np.asarray(path.energy), axis=0)
    assert np.all(rises <= 1e-6), "descending the score instead of the energy would raise it at each step"
    assert np.sum(rises) < 0


def test_the_chain_of_a_model_raises_its_score(model: EnergyModel) -> None:
    start = noise_images(8)
    end = compiled(slope_of(model), start, BOOK, steps=60)
    assert np.all(np.asarray(model(end)) > np.asarray(model(start)))


@pytest.mark.parametrize(("curvature", "step_size"), [(1.0, 0.5), (0.2, 1.0), (1.0, 1.5)])
def test_the_variance_on_a_quadratic_energy_is_that_of_theory(curvature: float, step_size: float) -> None:
    """x <- r (x + s n) with r = 1 - step_size a has variance (r s)^2 / (1 - r^2): see the module."""
    sigma, r = 0.05, 1 - step_size * curvature
    end = compiled(bowl(curvature), tf.zeros((256, *IMAGE)), Rule(step_size, sigma, None), steps=200)
    theory = (r * sigma) ** 2 / (1 - r**2)
    assert abs(end.mean()) < 5 * math.sqrt(theory / end.size)
    assert end.var() == pytest.approx(theory, rel=5 * math.sqrt(2 / end.size))


def test_no_pixel_moves_further_than_step_size_times_clip(model: EnergyModel) -> None:
    rule = Rule(step_size=1000.0, noise=0.0, gradient_clip=0.0003)
    path = trajectory(slope_of(model), noise_images(4), rule, Address(NOISE), at=tuple(range(12)))
    moves = np.abs(np.diff(np.asarray(path.images), axis=0))
    assert moves.max() <= 0.3 + 1e-6
    assert moves.max() > 0.29, "the bound is never reached: the test shows nothing"


def test_images_stay_in_range() -> None:
    end = compiled(uphill, noise_images(4), Rule(5.0, 3.0, None), steps=10)
    assert end.min() == -1.0
    assert end.max() <= 1.0


def test_a_trajectory_holds_each_image_asked_for_and_ends_where_the_chain_does(model: EnergyModel) -> None:
    """The book makes a list of images and never fills it."""
    at, start = (0, 1, 3, 5, 10), noise_images(3)
    path = tf.function(lambda x: trajectory(slope_of(model), x, BOOK, Address(NOISE, 3), at=at))(start)
    assert path.images.shape == (5, 3, *IMAGE)
    assert path.energy.shape == (10, 3)
    for image, steps in zip(path.images, at, strict=True):
        assert np.allclose(image, compiled(slope_of(model), start, BOOK, steps=steps), atol=1e-5)
    noisy = np.clip(start + 0.005 * NOISE.normal((3, *IMAGE), step=3, k=0, first=0), -1, 1)
    assert np.allclose(path.energy[0], model.energy(noisy), atol=1e-6)


@pytest.mark.parametrize("at", [(), (3, 1), (1, 1), (-1, 2), (CHAIN_STEPS + 1,)])
def test_steps_of_a_trajectory_must_rise(at: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="steps must rise"):
        trajectory(uphill, noise_images(1), BOOK, Address(NOISE), at=at)


def test_a_chain_is_no_longer_than_its_addresses() -> None:
    with pytest.raises(ValueError, match="at most 1048576"):
        chains(uphill, noise_images(1), BOOK, Address(NOISE), steps=CHAIN_STEPS + 1)


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_slices_of_a_batch_have_the_chains_of_the_whole(model: EnergyModel, cut: int) -> None:
    start = noise_images(8)
    whole = compiled(slope_of(model), start, BOOK, steps=30)
    for rows in (slice(0, cut), slice(cut, 8)):
        part = chains(slope_of(model), start[rows], BOOK, Address(NOISE, 3, rows.start), steps=30)
        assert np.allclose(part, whole[rows], atol=2e-5)


@pytest.mark.parametrize("lanes", [2, 3, 8, 9])
def test_lanes_change_nothing(model: EnergyModel, lanes: int) -> None:
    start = noise_images(8)
    one = compiled(slope_of(model), start, BOOK, steps=30)
    assert np.allclose(compiled(slope_of(model), start, BOOK, steps=30, lanes=lanes), one, atol=2e-5)


def test_a_batch_whose_size_is_not_known_when_traced(model: EnergyModel) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, *IMAGE])])
    def program(start: Any) -> Any:
        return chains(slope_of(model), start, BOOK, Address(NOISE, 3), steps=5, lanes=2)

    start = noise_images(6)
    assert np.allclose(program(start), compiled(slope_of(model), start, BOOK, steps=5), atol=1e-5)


def test_no_gradient_flows_through_a_chain(model: EnergyModel) -> None:
    variables = [weight.value for weight in model.trainable_variables]
    with tf.GradientTape() as tape:
        end = chains(slope_of(model), noise_images(2), BOOK, Address(NOISE), steps=3)
        total = tf.reduce_sum(end)
    assert tape.gradient(total, variables) == [None] * len(variables)


def test_another_model_is_descended_by_its_score_in_inference_mode(model: EnergyModel) -> None:
    """A model without a slope of its own; its call gives a score, [batch, 1] or [batch]."""
    modes = []

    def score(images: Any, training: bool) -> Any:
        modes.append(training)
        return model(images)[:, None]

    energy, gradient = slope_of(score)(noise_images(3))
    by_hand = model.slope()(noise_images(3))
    assert np.allclose(energy, by_hand[0], atol=1e-6)
    assert np.allclose(gradient, by_hand[1], atol=1e-7)
    assert modes == [False]


def test_samples_depend_on_seed_and_number_alone(model: EnergyModel) -> None:
    node = SimpleNamespace(step_size=10.0, noise=0.005, gradient_clip=0.03)
    sampler = Sampler(model, node, IMAGE, seed=5)
    some = sampler.draw(6, at=(0, 4, 8))
    later = sampler.draw(2, at=(0, 4, 8), first=4)
    assert some.images.shape == (3, 6, *IMAGE)
    assert np.array_equal(some.images[0, 4:], later.images[0])
    assert np.allclose(some.images[:, 4:], later.images, atol=1e-5)
    other = Sampler(model, node, IMAGE, seed=6).draw(6, at=(0,))
    assert np.unique(np.stack([some.images[0], other.images[0]])).size == 2 * some.images[0].size


def test_samples_follow_the_weights() -> None:
    network = EnergyModel(SimpleNamespace(filters=(4,), hidden=8), IMAGE)
    sampler = Sampler(network, SimpleNamespace(step_size=10.0, noise=0.0, gradient_clip=None), IMAGE, seed=5)
    before = sampler.draw(2, at=(3,))
    for weight in network.trainable_variables:
        weight.assign(tf.zeros_like(weight))
    after = sampler.draw(2, at=(0, 3))
    assert np.array_equal(after.images[0], after.images[1]), "no weights, no slope"
    assert not np.allclose(before.images[0], after.images[1])


def test_marks_are_those_of_the_book_as_far_as_the_chain_goes() -> None:
    assert marks(1000) == (*MARKS, 1000)
    assert marks(60) == (0, 1, 3, 5, 10, 30, 50, 60)
    assert marks(30) == (0, 1, 3, 5, 10, 30)


def test_ends_tell_of_the_last_step(model: EnergyModel) -> None:
    rule, start = Rule(10.0, 0.0, 0.001), noise_images(4)
    found = ends(slope_of(model), start, rule, Address(NOISE, 3), steps=5, lanes=2)
    before = chains(slope_of(model), start, rule, Address(NOISE, 3), steps=4)
    assert np.array_equal(
        found.images, chains(slope_of(model), start, rule, Address(NOISE, 3), steps=5, lanes=2)
    )
    assert np.allclose(found.gradient, model.slope()(before)[1], atol=1e-6), "as it was, before its bound"
    assert np.abs(found.gradient).max() > rule.gradient_clip
    assert found.taken.numpy().tolist() == [5.0] * 4
    none = ends(slope_of(model), start, rule, Address(NOISE, 3), steps=0)
    assert np.array_equal(none.images, start)
    assert not np.any(none.gradient)


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_noise_falls_geometrically_to_its_end(steps: int) -> None:
    rule = Rule(1.0, 0.1, None, noise_end=0.005)
    levels = np.array([float(rule.noise_at(tf.constant(k, tf.int64), steps)) for k in range(steps)])
    assert levels[0] == pytest.approx(0.1)
    if steps > 1:
        assert levels[-1] == pytest.approx(0.005)
        assert np.allclose(levels[1:] / levels[:-1], (0.005 / 0.1) ** (1 / (steps - 1)))
    end = compiled(bowl(0.0), tf.zeros((64, *IMAGE)), rule, steps=tf.constant(steps))
    assert end.std() == pytest.approx(math.sqrt((levels**2).sum()), rel=0.05)


def test_noise_that_falls_to_where_it_was_changes_nothing(model: EnergyModel) -> None:
    start = noise_images(4)
    same = Rule(10.0, 0.005, 0.03, noise_end=0.005)
    assert np.array_equal(
        compiled(slope_of(model), start, same, steps=9), compiled(slope_of(model), start, BOOK, steps=9)
    )


def test_a_trajectory_falls_in_noise_over_the_whole_of_it(model: EnergyModel) -> None:
    rule, start = Rule(10.0, 0.1, 0.03, noise_end=0.001), noise_images(3)
    path = trajectory(slope_of(model), start, rule, Address(NOISE, 3), at=(4, 12))
    assert np.allclose(path.images[1], compiled(slope_of(model), start, rule, steps=12), atol=1e-5)


JOB = """
version: 1
name: x
model: {kind: ebm}
data: {kind: digits, image_size: 16, range: [-1, 1]}
train: {global_batch: 64, duration: {steps: 1}, optimizer: {kind: adam, learning_rate: 1.0e-4}}
sampler: {kind: langevin, buffer: {size: 512}}
"""


def test_a_job_s_options_reach_the_rule() -> None:
    falling = specs.parse(JOB, sets=["sampler.noise=0.1", "sampler.noise_end=0.005"]).sampler
    assert Rule.of(falling) == Rule(10.0, 0.1, 0.03, noise_end=0.005)
    assert falling.noise_end == 0.005
    tested = specs.parse(JOB, sets=["sampler.acceptance=true", "sampler.step_size=1.0e-4"]).sampler
    assert Rule.of(tested) == Rule(1e-4, 0.005, 0.03, acceptance=True)
    assert Rule.of(specs.parse(JOB).sampler) == BOOK, "both are off by default"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["sampler.noise=0", "sampler.noise_end=0.005"], "no geometric fall from a noise of 0"),
        (["sampler.acceptance=true", "sampler.noise=0.1"], "the noise is sqrt\\(2 step_size\\)"),
        (["sampler.acceptance=true", "sampler.noise_end=0.1"], "remove noise and noise_end"),
    ],
)
def test_noise_that_would_mean_nothing_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        specs.parse(JOB, sets=sets)


def test_the_noise_of_annealing_can_be_searched() -> None:
    space = "{sampler.noise: {log: [0.01, 0.3]}}"
    search = f"search={{space: {space}, metric: validation/contrastive_divergence, trials: 2}}"
    specs.parse(JOB, sets=["sampler.noise=0.1", "sampler.noise_end=0.005", search])

"""Contrastive divergence: its formula, its counts, and that shares add over replicas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lehr.dynamics import diagnostics
from lehr.dynamics.noise import Noise
from lehr.models.ebm import EnergyModel
from lehr.objectives.contrastive import Contrastive
from lehr.objectives.objective import Objective
from lehr.seeds import Purpose

IMAGE = (8, 8, 1)
SLOTS = 8


def spec(**sampler: Any) -> Any:
    buffer = SimpleNamespace(size=32, fresh=0.25)
    settings = {"steps": 10, "step_size": 10.0, "noise": 0.005, "gradient_clip": 0.03, "buffer": buffer}
    return SimpleNamespace(
        sampler=SimpleNamespace(**(settings | sampler)),
        train=SimpleNamespace(seed=4),
        strategy=SimpleNamespace(cpus_per_worker=1, devices_per_worker=1),
    )


def objective(*, regulariser: float = 0.1, data_noise: float = 0.005, **sampler: Any) -> Contrastive:
    return Contrastive(SimpleNamespace(regulariser=regulariser, data_noise=data_noise), spec(**sampler))


@pytest.fixture(scope="module")
def model() -> EnergyModel:
    tf.random.set_seed(0)
    return EnergyModel(SimpleNamespace(filters=(4, 8), hidden=8), IMAGE)


def batch(*, real: int = SLOTS, rows: slice = slice(0, SLOTS)) -> dict[str, Any]:
    """Rows of a global batch of 8 slots, the first `real` of which hold an example."""

    def uniform(seed: int) -> Any:
        images = Noise(seed, Purpose.SAMPLE_START).uniform((SLOTS, *IMAGE), step=0, k=0, first=0)
        return images[rows]

    return {
        "input": uniform(1) * 0.1,
        "start": uniform(2),
        "age": tf.range(float(SLOTS))[rows],
        "oldest": 2.0 * tf.range(float(SLOTS))[rows],
        "weight": tf.constant([1.0] * real + [0.0] * (SLOTS - real))[rows],
        "step": tf.constant(6, tf.int64),
        "first": tf.constant(rows.start, tf.int64),
        "count": tf.constant(float(real)),
        "slots": tf.constant(float(SLOTS)),
    }


def numbers(shares: dict[str, Any]) -> dict[str, float]:
    return {name: float(share) for name, share in shares.items()}


def test_it_is_an_objective() -> None:
    it: Objective = objective()
    assert it.metrics[:5] == ("loss", "regulariser", "contrastive_divergence", "real_score", "fake_score")
    assert it.metrics[5:] == diagnostics.METRICS
    assert it.validation_metrics == ("contrastive_divergence", "real_score", "fake_score")
    assert it.products == ("chain",)


@pytest.mark.parametrize("real", [SLOTS, 5, 1])
def test_the_loss_is_the_book_s_split_at_the_true_batch_size(model: EnergyModel, real: int) -> None:
    """The book cuts scores in two equal halves, so with 96 real images 16 chains count as real."""
    it = objective(regulariser=0.3)
    prepared = it.prepare(model, batch(real=real))
    loss, shares = it.loss(model, prepared)
    noise = Noise(4, Purpose.DATA_NOISE).normal((SLOTS, *IMAGE), step=6, k=0, first=0)
    of_real = np.asarray(model(np.clip(prepared["input"] + 0.005 * noise, -1, 1)))[:real]
    of_fake = np.asarray(model(prepared["chain"]))
    divergence = of_fake.mean() - of_real.mean()
    regulariser = 0.3 * ((of_real**2).mean() + (of_fake**2).mean())
    assert {name: float(shares[name]) for name in it.metrics[:5]} == pytest.approx(
        {
            "loss": divergence + regulariser,
            "regulariser": regulariser,
            "contrastive_divergence": divergence,
            "real_score": of_real.mean(),
            "fake_score": of_fake.mean(),
        },
        rel=1e-4,
        abs=1e-6,
    )
    assert float(loss) == numbers(shares)["loss"]


@pytest.mark.parametrize("acceptance", [False, True])
@pytest.mark.parametrize("real", [SLOTS, 5])
@pytest.mark.parametrize("replicas", [2, 4])
def test_shares_and_gradients_add_over_replicas(
    model: EnergyModel, replicas: int, real: int, acceptance: bool
) -> None:
    it = objective(acceptance=True, step_size=1e-3) if acceptance else objective()
    variables = [weight.value for weight in model.trainable_variables]

    def step(given: dict[str, Any]) -> tuple[dict[str, float], list[Any], Any]:
        prepared = it.prepare(model, given)
        with tf.GradientTape() as tape:
            loss, shares = it.loss(model, prepared)
        return numbers(shares), tape.gradient(loss, variables), prepared["chain"]

    whole, gradients, ends = step(batch(real=real))
    rows = SLOTS // replicas
    parts = [step(batch(real=real, rows=slice(r * rows, (r + 1) * rows))) for r in range(replicas)]
    summed = {name: sum(part[0][name] for part in parts) for name in whole}
    assert summed == pytest.approx(whole, rel=1e-4, abs=1e-5)
    assert np.allclose(tf.concat([part[2] for part in parts], 0), ends, atol=1e-5)
    for index, gradient in enumerate(gradients):
        total = sum(part[1][index] for part in parts)
        assert np.abs(total - gradient).max() <= 1e-4 * np.abs(gradient).max() + 1e-7


def test_rows_without_an_example_change_nothing(model: EnergyModel) -> None:
    it, given = objective(), batch(real=5)
    prepared = it.prepare(model, given)
    junk = tf.concat([given["input"][:5], tf.ones((3, *IMAGE)) * 0.9], 0)
    assert numbers(it.loss(model, prepared)[1]) == numbers(it.loss(model, prepared | {"input": junk})[1])
    assert numbers(it.validate(model, given))["real_score"] == pytest.approx(
        numbers(it.validate(model, given | {"input": junk}))["real_score"]
    )


def test_training_makes_real_images_likely_and_chains_unlikely() -> None:
    tf.random.set_seed(1)
    network = EnergyModel(SimpleNamespace(filters=(4, 8), hidden=8), IMAGE)
    it, variables = objective(), [weight.value for weight in network.trainable_variables]
    prepared = it.prepare(network, batch())
    with tf.GradientTape() as tape:
        loss, shares = it.loss(network, prepared)
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.05 * gradient)
    after = numbers(it.loss(network, prepared)[1])
    before = numbers(shares)
    assert after["real_score"] - after["fake_score"] > before["real_score"] - before["fake_score"]


def test_chains_start_from_the_memory_and_end_in_it(model: EnergyModel) -> None:
    it = objective()
    memory = it.memory(shape=IMAGE, slots=4, first_slot=4, global_slots=SLOTS)
    assert memory is not None
    given = batch(rows=slice(4, 8)) | memory.draw(6)
    prepared = it.prepare(model, given)
    memory.keep(6, {name: prepared[name].numpy() for name in it.products})
    assert prepared["chain"].shape == (4, *IMAGE)
    assert not np.allclose(prepared["chain"], given["start"])
    assert np.array_equal(memory.state()["chains"][:, 1], prepared["chain"])


@pytest.mark.parametrize("real", [SLOTS, 5])
def test_what_the_chains_are_like_is_told_over_all_slots(model: EnergyModel, real: int) -> None:
    """Every slot has a chain, whether or not it has an example."""
    it, given = objective(), batch(real=real)
    prepared = it.prepare(model, given)
    _, shares = it.loss(model, prepared)
    start, end = np.asarray(given["start"]), np.asarray(prepared["chain"])
    assert float(shares["chain_displacement"]) == pytest.approx(
        np.sqrt(((end - start) ** 2).mean(axis=(1, 2, 3))).mean(), rel=1e-4
    )
    assert float(shares["chain_saturation"]) == pytest.approx((np.abs(end) >= 1 - 1 / 255).mean(), rel=1e-4)
    assert float(shares["chain_acceptance"]) == 1.0, "without a test every step is taken"
    assert float(shares["chain_age"]) == pytest.approx(3.5)
    assert float(shares["chain_age_oldest"]) == pytest.approx(7.0)


def test_chains_with_acceptance_are_refused_some_steps(model: EnergyModel) -> None:
    """On a steep energy, at a long step: who is refused every one stays where it was."""
    it, given = objective(acceptance=True, step_size=1.0, gradient_clip=None, steps=2), batch()
    prepared = it.prepare(lambda images, training: 30.0 * model(images), given)
    taken = np.asarray(prepared["chain_acceptance"])
    assert 0.0 < float(it.loss(model, prepared)[1]["chain_acceptance"]) < 1.0
    moved = np.any(np.asarray(prepared["chain"] != given["start"]), axis=(1, 2, 3))
    assert np.array_equal(moved, taken > 0)


def test_no_gradient_flows_through_the_chains(model: EnergyModel) -> None:
    it, variables = objective(), [weight.value for weight in model.trainable_variables]
    with tf.GradientTape() as inside:
        prepared = it.prepare(model, batch())
        loss, _ = it.loss(model, prepared)
    with tf.GradientTape() as outside:
        again, _ = it.loss(model, prepared)
    for one, other in zip(inside.gradient(loss, variables), outside.gradient(again, variables), strict=True):
        assert np.array_equal(one, other)


def test_a_model_samples_in_inference_mode_and_is_scored_in_training_mode(model: EnergyModel) -> None:
    modes = []

    class Watched:
        def __call__(self, images: Any, training: bool) -> Any:
            modes.append((training, images.shape[0]))
            return model(images)

    it = objective(steps=1)
    it.loss(Watched(), it.prepare(Watched(), batch()))
    assert modes == [(False, SLOTS), (True, 2 * SLOTS)], "real images and chains are scored together"


def test_validation_is_noise_against_held_out_images(model: EnergyModel) -> None:
    it, given = objective(), batch(real=5)
    noise = Noise(4, Purpose.VALIDATION_NOISE).uniform((SLOTS, *IMAGE), step=6, k=0, first=0)
    fake, real = np.asarray(model(noise)).mean(), np.asarray(model(given["input"]))[:5].mean()
    expected = {"contrastive_divergence": fake - real, "real_score": real, "fake_score": fake}
    assert numbers(it.validate(model, given)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_step_compiles_as_a_whole(model: EnergyModel) -> None:
    it = objective(steps=3)
    variables = [weight.value for weight in model.trainable_variables]

    @tf.function
    def step(given: dict[str, Any]) -> tuple[Any, list[Any], Any]:
        prepared = it.prepare(model, given)
        with tf.GradientTape() as tape:
            loss, _ = it.loss(model, prepared)
        return loss, tape.gradient(loss, variables), prepared["chain"]

    given = batch()
    loss, _, ends = step(given)
    assert np.allclose(ends, it.prepare(model, given)["chain"], atol=1e-5)
    assert np.isfinite(loss)

"""Cross-entropy and accuracy as shares that add up."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lehr.data.arrays import Arrays
from lehr.data.feed import Feed
from lehr.objectives.classification import Classification

RNG = np.random.default_rng(2)
LOGITS = RNG.normal(size=(11, 5)).astype(np.float32) * 3
LABELS = RNG.integers(0, 5, 11)


class Echo:
    """A model whose logits are its inputs; remembers the mode that it was called in."""

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def __call__(self, inputs: Any, *, training: bool) -> Any:
        self.modes.append(training)
        return tf.convert_to_tensor(inputs)


def objective(smoothing: float = 0.0) -> Classification:
    return Classification(SimpleNamespace(kind="classification", label_smoothing=smoothing), spec=None)


def batches(*, workers: int, rows: int) -> list[list[dict[str, Any]]]:
    """Every batch of one epoch in file order, by worker."""
    share = {"seed": 0, "global_batch": workers * rows, "rows": rows}
    feeds = [Feed(Arrays(LOGITS, LABELS), first=rank * rows, **share) for rank in range(workers)]
    return [list(feed.validation_batches()) for feed in feeds]


def cross_entropy(smoothing: float = 0.0) -> np.ndarray:
    """Of each row, in float64."""
    logits = LOGITS.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.eye(5)[LABELS] * (1 - smoothing) + smoothing / 5
    return -(target * log_p).sum(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_formula(smoothing: float) -> None:
    ((batch,),) = batches(workers=1, rows=11)
    loss, shares = objective(smoothing).loss(Echo(), batch)
    assert float(loss) == pytest.approx(cross_entropy(smoothing).mean(), rel=1e-6)
    assert float(shares["loss"]) == float(loss)
    assert float(shares["accuracy"]) == pytest.approx((LOGITS.argmax(axis=1) == LABELS).mean())
    assert set(shares) == set(Classification.metrics)
    assert loss.dtype == tf.float32


@pytest.mark.parametrize(("workers", "rows"), [(1, 11), (1, 4), (2, 3), (4, 4), (3, 1)])
def test_shares_add_up_over_workers_and_batches(workers: int, rows: int) -> None:
    totals = dict.fromkeys(Classification.validation_metrics, 0.0)
    for worker in batches(workers=workers, rows=rows):
        for batch in worker:
            for name, share in objective().validate(Echo(), batch).items():
                totals[name] += float(share) * float(batch["count"])
    assert totals["loss"] / 11 == pytest.approx(cross_entropy().mean(), rel=1e-5)
    assert totals["accuracy"] / 11 == pytest.approx((LOGITS.argmax(axis=1) == LABELS).mean())


def test_rows_without_an_example_have_no_gradient() -> None:
    _, (batch,) = batches(workers=2, rows=8)  # three of eight rows hold an example
    logits = tf.Variable(batch["input"])
    with tf.GradientTape() as tape:
        loss, _ = objective().loss(lambda inputs, training: logits, batch)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.abs(gradient[:3]).sum(axis=1).min() > 0
    assert not gradient[3:].any()
    p = np.exp(LOGITS[8:] - LOGITS[8:].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient[:3], (p - np.eye(5)[LABELS[8:]]) / 11, rtol=1e-5, atol=1e-7)


def test_the_model_is_told_whether_it_trains() -> None:
    ((batch,),) = batches(workers=1, rows=11)
    echo = Echo()
    objective().loss(echo, batch)
    objective().validate(echo, batch)
    assert echo.modes == [True, False]


def test_half_precision_logits_are_scored_in_float32() -> None:
    ((batch,),) = batches(workers=1, rows=11)
    loss, _ = objective().loss(lambda inputs, training: tf.cast(inputs, tf.bfloat16), batch)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(cross_entropy().mean(), rel=0.02)


def test_extreme_logits_stay_finite() -> None:
    ((batch,),) = batches(workers=1, rows=11)
    loss, _ = objective(0.1).loss(lambda inputs, training: tf.convert_to_tensor(inputs) * 1e4, batch)
    assert math.isfinite(float(loss))


def test_it_has_no_memory_and_prepares_nothing() -> None:
    assert objective().memory(shape=(28, 28, 1), slots=4, first_slot=0, global_slots=4) is None
    batch = {"input": 1}
    assert objective().prepare(None, batch) is batch
    assert Classification.products == ()


def test_lenet_learns_digits_by_its_gradient() -> None:
    """The whole room together: feed, LeNet, objective; sixty steps on real digits halve the error by far."""
    from lehr.data import digits
    from lehr.models.lenet import LeNet

    keras.utils.set_random_seed(0)
    node = SimpleNamespace(
        image_size=16, range=(0.0, 1.0), levels=None, train_examples=None, validation_examples=None
    )
    feed = Feed(digits.load(node, "train"), seed=0, global_batch=64, first=0, rows=64)
    model = LeNet(SimpleNamespace(activation="relu", pooling="max"), feed.shape)
    optimizer, wanted = keras.optimizers.Adam(3e-3), objective()
    variables = [v.value for v in model.trainable_variables]

    @tf.function
    def step(batch: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            loss, shares = wanted.loss(model, batch)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), model.trainable_variables, strict=True))
        return shares["accuracy"]

    accuracies = [float(step(feed.batch(index))) for index in range(60)]
    assert np.mean(accuracies[:3]) < 0.4
    assert np.mean(accuracies[-5:]) > 0.75

"""Maximum likelihood as shares that add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lehr.data.arrays import Arrays
from lehr.data.feed import Feed
from lehr.objectives.likelihood import Likelihood

RNG = np.random.default_rng(2)
INPUTS = RNG.normal(size=(11, 3, 2, 1)).astype(np.float32)
SHARPNESS = 1.7


class Gauss:
    """log N(x; 0, 1 / sharpness) up to a constant; remembers how it was called."""

    def __init__(self) -> None:
        self.sharpness = tf.Variable(SHARPNESS)
        self.calls: list[tuple[bool, Any]] = []

    def log_probability(self, inputs: Any, *, training: bool = False, address: Any = None) -> Any:
        self.calls.append((training, address))
        return -0.5 * self.sharpness * tf.reduce_sum(tf.cast(inputs, tf.float32) ** 2, axis=[1, 2, 3])


def objective() -> Likelihood:
    return Likelihood(node=None, spec=None)


def batches(*, workers: int, rows: int) -> list[list[dict[str, Any]]]:
    """Every batch of one epoch in file order, by worker."""
    share = {"seed": 0, "global_batch": workers * rows, "rows": rows}
    arrays = Arrays(INPUTS, np.zeros(11, np.int64))
    return [list(Feed(arrays, first=rank * rows, **share).validation_batches()) for rank in range(workers)]


NATS = 0.5 * SHARPNESS * (INPUTS**2).sum(axis=(1, 2, 3))


def test_the_formula() -> None:
    ((batch,),) = batches(workers=1, rows=11)
    loss, shares = objective().loss(Gauss(), batch)
    assert float(loss) == float(shares["loss"]) == pytest.approx(NATS.mean(), rel=1e-6)
    assert float(shares["bits_per_dimension"]) == pytest.approx(NATS.mean() / math.log(2) / 6, rel=1e-6)
    assert set(shares) == set(Likelihood.metrics) == set(Likelihood.validation_metrics)
    assert loss.dtype == tf.float32


@pytest.mark.parametrize(("workers", "rows"), [(1, 4), (2, 3), (4, 4), (3, 1)])
def test_shares_add_up_over_workers_and_batches(workers: int, rows: int) -> None:
    totals = dict.fromkeys(Likelihood.validation_metrics, 0.0)
    for worker in batches(workers=workers, rows=rows):
        for batch in worker:
            for name, share in objective().validate(Gauss(), batch).items():
                totals[name] += float(share) * float(batch["count"])
    assert totals["loss"] / 11 == pytest.approx(NATS.mean(), rel=1e-5)
    assert totals["bits_per_dimension"] / 11 == pytest.approx(NATS.mean() / math.log(2) / 6, rel=1e-5)


def test_rows_without_an_example_count_for_nothing() -> None:
    _, (batch,) = batches(workers=2, rows=8)  # three of eight rows hold an example
    batch["input"][3:] = np.inf
    model = Gauss()
    with tf.GradientTape() as tape:
        loss, _ = objective().loss(model, batch)
    assert float(loss) == pytest.approx(NATS[8:].sum() / 11, rel=1e-6)
    batch["input"][3:] = 1e3
    with tf.GradientTape() as tape:
        loss, _ = objective().loss(model, batch)
    gradient = float(tape.gradient(loss, model.sharpness))
    assert gradient == pytest.approx(NATS[8:].sum() / 11 / SHARPNESS, rel=1e-6)


def test_the_model_is_told_whether_it_trains_and_where_its_randomness_is() -> None:
    ((batch,),) = batches(workers=1, rows=11)
    model = Gauss()
    objective().loss(model, batch)
    objective().validate(model, batch)
    assert model.calls == [(training, (batch["step"], batch["first"])) for training in (True, False)]


def test_it_has_no_memory_and_prepares_nothing() -> None:
    assert objective().memory(shape=(28, 28, 1), slots=4, first_slot=0, global_slots=4) is None
    batch = {"input": 1}
    assert objective().prepare(None, batch) is batch
    assert Likelihood.products == ()

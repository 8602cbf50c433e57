"""Averages between entries, and the split of time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lehr.loop.meter import Meter, Stopwatch


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_phases_add_up_and_start_anew() -> None:
    hands = Hands()
    watch = Stopwatch(hands)
    for _ in range(2):
        with watch.phase("data"):
            hands.time += 1.0
        with watch.phase("compute"):
            hands.time += 4.0
        watch.move("compute", "exchange", 1.5)
    lap = watch.lap(steps=2, examples=40)
    assert lap["time/step_s"] == 5.0
    assert lap["time/data_s"] == 1.0
    assert lap["time/compute_s"] == 2.5
    assert lap["time/exchange_s"] == 1.5
    assert lap["rate/examples_per_s"] == 4.0
    hands.time += 3.0
    assert watch.lap(steps=1, examples=0)["time/compute_s"] == 0.0


def test_a_resumed_meter_reports_what_an_undisturbed_one_does() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    whole, first, second = (Meter(["a", "b"]) for _ in range(3))
    for row in rows:
        whole.add(row, examples=3)
    for row in rows[:4]:
        first.add(row, examples=3)
    second.restore(json.loads(json.dumps(first.state())))
    for row in rows[4:]:
        second.add(row, examples=3)
    assert second.take("entry") == whole.take("entry")
    assert second.take("epoch") == whole.take("epoch")


def test_taking_one_span_leaves_the_other() -> None:
    meter = Meter(["a"])
    meter.add(np.array([2.0]), examples=1)
    assert meter.take("entry") == ({"a": 2.0}, 1, 1.0)
    meter.add(np.array([4.0]), examples=1)
    assert meter.take("entry") == ({"a": 4.0}, 1, 1.0)
    assert meter.take("epoch") == ({"a": 3.0}, 2, 2.0)


def test_an_unknown_phase_is_our_own_mistake() -> None:
    with pytest.raises(KeyError), Stopwatch(Hands()).phase("lunch"):
        pass


def test_state_of_a_version_that_told_other_metrics_begins_anew() -> None:
    before, now = Meter(["loss"]), Meter(["loss", "accuracy"])
    before.add(np.array([2.0]), examples=4.0)
    now.restore(before.state())
    now.add(np.array([1.0, 0.5]), examples=8.0)
    assert now.take("entry") == ({"loss": 1.0, "accuracy": 0.5}, 1, 8.0)

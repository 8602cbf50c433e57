"""The arithmetic of data order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.data import order
from lehr.seeds import permutation

sizes = st.tuples(st.integers(1, 300), st.integers(1, 70))


@given(sizes)
def test_an_epoch_covers_every_example_once(size: tuple[int, int]) -> None:
    examples, batch = size
    steps = order.steps_per_epoch(examples, batch)
    places = [order.place(s, examples=examples, global_batch=batch) for s in range(steps)]
    covered = [p for where in places for p in range(where.start, where.start + where.count)]
    assert covered == list(range(examples))
    assert {where.epoch for where in places} == {0}
    after = order.place(steps, examples=examples, global_batch=batch)
    assert after == order.Place(1, 0, min(batch, examples))


@pytest.mark.parametrize(("examples", "steps"), [(1, 1), (127, 1), (128, 1), (129, 2), (60_000, 469)])
def test_steps_per_epoch(examples: int, steps: int) -> None:
    assert order.steps_per_epoch(examples, 128) == steps


def test_the_last_batch_of_mnist_holds_96() -> None:
    assert order.place(468, examples=60_000, global_batch=128) == order.Place(0, 59_904, 96)
    assert order.place(2 * 469 - 1, examples=60_000, global_batch=128) == order.Place(1, 59_904, 96)


@given(sizes, st.integers(0, 10_000), st.data())
def test_rows_are_a_slice_of_the_global_rows(size: tuple[int, int], batch: int, data: st.DataObject) -> None:
    examples, global_batch = size
    first = data.draw(st.integers(0, global_batch - 1))
    count = data.draw(st.integers(1, global_batch - first))
    where = order.place(batch, examples=examples, global_batch=global_batch)
    shuffled = permutation(3, where.epoch, examples)
    whole, weights = order.rows(shuffled, where, first=0, count=global_batch)
    part, part_weights = order.rows(shuffled, where, first=first, count=count)
    np.testing.assert_array_equal(part, whole[first : first + count])
    np.testing.assert_array_equal(part_weights, weights[first : first + count])
    assert weights.sum() == where.count
    assert weights.dtype == np.float32


def test_rows_without_an_example_repeat_the_start_of_the_order() -> None:
    where = order.place(1, examples=5, global_batch=4)
    rows, weights = order.rows(np.array([4, 2, 0, 1, 3]), where, first=0, count=4)
    assert rows.tolist() == [3, 4, 2, 0]
    assert weights.tolist() == [1, 0, 0, 0]


def test_a_batch_larger_than_the_data_is_one_partial_step() -> None:
    where = order.place(7, examples=3, global_batch=8)
    rows, weights = order.rows(np.array([2, 0, 1]), where, first=0, count=8)
    assert where == order.Place(7, 0, 3)
    assert rows.tolist() == [2, 0, 1, 2, 0, 1, 2, 0]
    assert weights.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]

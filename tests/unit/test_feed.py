"""A worker's batches: the same whole under any sharding, by seeking or in sequence."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.data.arrays import Arrays
from lehr.data.feed import AHEAD, Batch, Feed
from lehr.data.pictures import Pictures
from lehr.data.prefetch import Prefetch


def numbered(examples: int) -> Arrays:
    """Inputs that tell their index; rendered, as the real ones are."""
    bytes_ = np.arange(examples * 9, dtype=np.uint8).reshape(examples, 3, 3)
    return Arrays(bytes_, np.arange(examples), Pictures(3, 255, (-1.0, 1.0), 4.5, 6))


def feeds(arrays: Arrays, *, rows: int, workers: int, seed: int = 5) -> list[Feed]:
    share = {"seed": seed, "global_batch": rows * workers, "rows": rows}
    return [Feed(arrays, first=rank * rows, **share) for rank in range(workers)]


def joined(parts: list[Batch]) -> Batch:
    return {name: np.concatenate([p[name] for p in parts]) for name in ("input", "target", "weight")}


def same(a: Batch, b: Batch) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


@given(st.integers(1, 60), st.integers(1, 5), st.sampled_from([1, 2, 3, 4, 6]), st.integers(0, 200))
@settings(max_examples=60)
def test_any_sharding_gives_the_same_global_batch(examples: int, rows: int, workers: int, index: int) -> None:
    arrays = numbered(examples)
    (whole,) = feeds(arrays, rows=rows * workers, workers=1)
    shards = [f.batch(index) for f in feeds(arrays, rows=rows, workers=workers)]
    batch = whole.batch(index)
    for name, value in joined(shards).items():
        np.testing.assert_array_equal(value, batch[name], err_msg=name, strict=True)
    for rank, shard in enumerate(shards):
        assert shard["first"] == rank * rows
        for scalar in ("step", "count", "slots"):
            assert shard[scalar] == batch[scalar]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=40)
def test_each_example_once_an_epoch_in_another_order(examples: int, rows: int, epoch: int) -> None:
    (feed,) = feeds(numbered(examples), rows=rows, workers=1)
    steps = range(epoch * feed.steps_per_epoch, (epoch + 1) * feed.steps_per_epoch)
    batches = [feed.batch(s) for s in steps]
    seen = np.concatenate([b["target"][b["weight"] == 1] for b in batches])
    assert sorted(seen) == list(range(examples))
    assert sum(float(b["count"]) for b in batches) == examples


def test_epochs_and_seeds_differ() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        (feed,) = feeds(numbered(50), rows=50, workers=1, seed=seed)
        return list(feed.batch(number)["target"])

    assert epoch(1, 0) != epoch(1, 1)
    assert epoch(1, 0) != epoch(2, 0)
    assert epoch(1, 0) == epoch(1, 0)


def test_the_order_never_changes() -> None:
    """A recorded order: checkpoints made by an earlier version go on with the same batches."""
    (feed,) = feeds(numbered(10), rows=10, workers=1, seed=0)
    assert feed.batch(0)["target"].tolist() == [8, 3, 2, 9, 7, 0, 4, 5, 1, 6]
    assert feed.batch(3)["target"].tolist() == [9, 2, 3, 5, 8, 4, 7, 0, 6, 1]


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 23])
def test_seeking_equals_going_there(start: int) -> None:
    (feed,) = feeds(numbered(50), rows=7, workers=1)
    with feed.batches(0) as walk, feed.batches(start) as seek:
        for a, b in itertools.islice(zip(itertools.islice(walk, start, None), seek, strict=False), 10):
            same(a, b)


def test_a_batch_is_what_the_design_says() -> None:
    (_, feed) = feeds(numbered(10), rows=4, workers=2)
    batch = feed.batch(1)
    assert {name: (np.shape(v), np.asarray(v).dtype.name) for name, v in batch.items()} == {
        "input": ((4, 6, 6, 1), "float32"),
        "target": ((4,), "int64"),
        "weight": ((4,), "float32"),
        "step": ((), "int64"),
        "first": ((), "int64"),
        "count": ((), "float32"),
        "units": ((), "float32"),
        "slots": ((), "float32"),
    }
    assert (batch["step"], batch["first"], batch["count"], batch["slots"]) == (1, 4, 2, 8)
    assert batch["weight"].tolist() == [0, 0, 0, 0]
    assert batch["units"] == batch["count"]
    assert feed.shape == (6, 6, 1)


def test_units_are_those_of_the_true_examples_of_the_global_batch() -> None:
    arrays = dataclasses.replace(numbered(10), units=2 ** np.arange(10))
    for feed in feeds(arrays, rows=4, workers=2):
        whole, rest = feed.batch(0), feed.batch(1)
        assert whole["units"] + rest["units"] == 1023
        assert [float(batch["units"]) for batch in feed.validation_batches()] == [255, 768]
    assert dataclasses.replace(arrays, assets={"a": b"1"}).first(3).assets == {"a": b"1"}
    assert arrays.first(3).counted(np.arange(3)) == 7


def test_validation_is_the_split_once_in_file_order() -> None:
    parts = [list(f.validation_batches()) for f in feeds(numbered(11), rows=2, workers=2)]
    whole = [joined(list(pair)) for pair in zip(*parts, strict=True)]
    seen = np.concatenate([b["target"][b["weight"] == 1] for b in whole])
    assert seen.tolist() == list(range(11))
    assert [float(b["count"]) for b in parts[0]] == [4, 4, 3]
    assert sum(float(b["count"]) for b in parts[0]) == feeds(numbered(11), rows=2, workers=2)[0].examples


def test_shares_times_count_over_examples_is_the_mean() -> None:
    """How validation combines: each batch's shares are divided by its own count."""
    values = np.random.default_rng(0).normal(size=11)
    total = 0.0
    for feed in feeds(numbered(11), rows=2, workers=2):
        for b in feed.validation_batches():
            share = (b["weight"] * values[b["target"]]).sum() / b["count"]
            total += share * b["count"]
    assert total / feed.examples == pytest.approx(values.mean(), rel=1e-6)


# --- the thread ---------------------------------------------------------------------------------------


def threads() -> int:
    return sum(t.name == "lehr-feed" for t in threading.enumerate())


def until(condition: object, *, timeout_s: float = 5.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_it_makes_a_few_batches_ahead_and_no_more() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for i in itertools.count():
            made.append(i)
            yield i

    with Prefetch(source(), ahead=3) as items:
        assert until(lambda: len(made) == 4)  # three wait, one more is held ready to join them
        time.sleep(0.15)
        assert len(made) == 4
        assert next(items) == 0
        assert until(lambda: len(made) == 5)


def test_an_error_arrives_in_its_turn_and_ends_the_thread() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    before = threads()
    items = Prefetch(source(), ahead=AHEAD)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert list(items) == []
    assert threads() == before


def test_an_error_of_the_data_reaches_the_consumer() -> None:
    def render(rows: np.ndarray) -> np.ndarray:
        raise ValueError("cannot draw this")

    feed = Feed(Arrays(np.zeros((4, 2, 2)), np.zeros(4), render), seed=0, global_batch=2, first=0, rows=2)
    with feed.batches(0) as batches, pytest.raises(ValueError, match="cannot draw this"):
        next(batches)


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_closing_leaves_no_thread(taken: int) -> None:
    before = threads()
    (feed,) = feeds(numbered(10), rows=5, workers=1)
    batches = feed.batches(0)
    list(itertools.islice(batches, taken))
    assert threads() == before + 1
    batches.close()
    assert threads() == before
    batches.close()
    assert list(batches) == []


def test_an_exhausted_or_forgotten_iterator_leaves_no_thread() -> None:
    before = threads()
    (feed,) = feeds(numbered(10), rows=2, workers=1)
    assert len(list(feed.validation_batches())) == 5
    forgotten = feed.batches(0)
    next(forgotten)
    del forgotten
    gc.collect()
    assert until(lambda: threads() == before)


def test_closing_wakes_a_waiting_thread_quickly() -> None:
    (feed,) = feeds(numbered(10), rows=2, workers=1)
    batches = feed.batches(0)
    time.sleep(0.1)  # the queue is full by now
    began = time.perf_counter()
    batches.close()
    assert time.perf_counter() - began < 1.0


def test_a_batch_of_mnist_size_takes_less_than_a_training_step() -> None:
    """128 x 32 x 32 from bytes: 0.25 ms where a LeNet step takes about 8; generous, machines are shared."""
    images = np.zeros((60_000, 28, 28), np.uint8)
    arrays = Arrays(images, np.zeros(60_000), Pictures(28, 255, (-1, 1), 28, 32))
    feed = Feed(arrays, seed=0, global_batch=128, first=0, rows=128)
    feed.batch(0)
    times = []
    for index in range(30):
        began = time.perf_counter()
        feed.batch(index)
        times.append(time.perf_counter() - began)
    assert np.median(times) < 0.004

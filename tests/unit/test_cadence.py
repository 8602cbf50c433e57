"""When things are due, and durations in steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lehr.cadence import NEVER, Cadence, due, steps_per_epoch, to_steps

counts = st.integers(1, 5000)


@given(every=st.integers(1, 50), first=st.integers(0, 200), last=st.integers(0, 400))
def test_by_steps_it_is_due_at_every_multiple_and_nowhere_else(every: int, first: int, last: int) -> None:
    fired, before = [], first
    for step in range(first + 1, last + 1):
        if due(Cadence(steps=every), step, last_step=before, elapsed_s=0.0):
            fired.append(step)
            before = step
    assert fired == [step for step in range(first + 1, last + 1) if step % every == 0]


@given(every=st.integers(1, 50), first=st.integers(0, 300), step=st.integers(0, 300))
def test_a_multiple_that_was_passed_over_is_due_at_the_next_look(every: int, first: int, step: int) -> None:
    passed = any(one % every == 0 for one in range(first + 1, step + 1))
    assert due(Cadence(steps=every), step, last_step=first, elapsed_s=0.0) == passed


@given(minutes=st.floats(0.01, 100), elapsed=st.floats(0, 10_000), step=st.integers(0, 10))
def test_by_the_clock(minutes: float, elapsed: float, step: int) -> None:
    assert due(Cadence(minutes=minutes), step, last_step=0, elapsed_s=elapsed) == (
        step > 0 and elapsed >= 60 * minutes
    )


@given(step=st.integers(0, 10**9), last=st.integers(0, 10**9), elapsed=st.floats(0, 1e9))
def test_never_is_never(step: int, last: int, elapsed: float) -> None:
    assert not due(NEVER, step, last_step=last, elapsed_s=elapsed)


def test_nothing_is_due_twice_at_one_step() -> None:
    cadence = Cadence(steps=5, minutes=1.0)
    assert due(cadence, 10, last_step=9, elapsed_s=0.0)
    assert not due(cadence, 10, last_step=10, elapsed_s=1e6)


def test_whichever_comes_first() -> None:
    cadence = Cadence(steps=100, minutes=1.0)
    assert due(cadence, 3, last_step=0, elapsed_s=60.0)
    assert due(cadence, 100, last_step=3, elapsed_s=0.0)
    assert not due(cadence, 99, last_step=3, elapsed_s=59.9)


def seen_after(steps: int, *, train_examples: int, global_batch: int) -> int:
    """Examples seen after so many steps, by counting batches one by one."""
    total = 0
    for step in range(steps):
        position = step % steps_per_epoch(train_examples, global_batch)
        total += min(global_batch, train_examples - position * global_batch)
    return total


@given(train=st.integers(1, 300), batch=st.integers(1, 64), wanted=st.integers(1, 1000))
def test_a_duration_in_examples_ends_at_the_first_step_that_has_seen_them(
    train: int, batch: int, wanted: int
) -> None:
    size = {"train_examples": train, "global_batch": batch}
    steps = to_steps(wanted, "examples", **size)
    assert seen_after(steps, **size) >= wanted > seen_after(steps - 1, **size)


@given(train=counts, batch=counts, epochs=st.integers(1, 100))
def test_epochs_and_the_examples_in_them_are_the_same(train: int, batch: int, epochs: int) -> None:
    size = {"train_examples": train, "global_batch": batch}
    assert to_steps(epochs, "epochs", **size) == to_steps(epochs * train, "examples", **size)


@given(train=counts, batch=counts, steps=counts)
def test_steps_stay_steps(train: int, batch: int, steps: int) -> None:
    assert to_steps(steps, "steps", train_examples=train, global_batch=batch) == steps


def test_an_epoch_of_the_book() -> None:
    assert steps_per_epoch(60_000, 128) == 469
    assert to_steps(60, "epochs", train_examples=60_000, global_batch=128) == 28_140

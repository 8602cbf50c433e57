"""Which checkpoints stay, as arithmetic."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.checkpoint.manifest import Manifest
from lehr.checkpoint.retention import best, keep, superseded

LOSS = SimpleNamespace(metric="validation/loss", mode="min")
ACCURACY = SimpleNamespace(metric="validation/loss", mode="max")


def manifest(step: int, attempt: int = 1, loss: float | None = None) -> Manifest:
    metrics = {} if loss is None else {"validation/loss": loss}
    return Manifest(step, attempt, "", 1, (), metrics, {}, {}, 0.0)


manifests = st.lists(
    st.builds(
        manifest,
        st.integers(0, 50),
        st.integers(1, 4),
        st.none() | st.sampled_from([0.0, 1.0, math.inf, -math.inf, math.nan]) | st.floats(-10, 10),
    ),
    unique_by=lambda each: each.name,
    max_size=12,
)
policies = st.sampled_from([None, LOSS, ACCURACY])


def age(each: Manifest) -> tuple[int, int]:
    return each.step, each.attempt


@given(manifests, st.integers(1, 5), policies)
def test_the_newest_stay_and_little_else(there: list[Manifest], count: int, by: Any) -> None:
    kept = keep(there, keep_last=count, keep_best=by)
    newest = {each.name for each in sorted(there, key=age)[-count:]}
    assert newest <= kept <= {each.name for each in there}
    assert len(kept - newest) <= (by is not None)
    assert len(newest) == min(count, len(there))


@given(manifests, st.integers(1, 5), st.sampled_from([LOSS, ACCURACY]))
def test_none_that_goes_is_better_than_all_that_stay(there: list[Manifest], count: int, by: Any) -> None:
    kept = keep(there, keep_last=count, keep_best=by)

    def loss(each: Manifest) -> float:
        value = each.metrics.get("validation/loss", math.nan)
        return value if by.mode == "min" else -value

    rated = [each for each in there if not math.isnan(loss(each))]
    if rated:
        assert min(map(loss, rated)) == min(loss(each) for each in rated if each.name in kept)


@given(manifests, st.integers(1, 5), policies)
def test_what_was_kept_is_kept_again(there: list[Manifest], count: int, by: Any) -> None:
    kept = keep(there, keep_last=count, keep_best=by)
    assert keep([each for each in there if each.name in kept], keep_last=count, keep_best=by) == kept


@given(st.permutations(range(8)), st.integers(1, 5), policies)
def test_the_order_in_which_they_are_listed_is_nothing(order: list[int], count: int, by: Any) -> None:
    there = [manifest(step, 1 + step % 2, loss=float(step * 7 % 5)) for step in range(8)]
    shuffled = [there[i] for i in order]
    assert keep(shuffled, keep_last=count, keep_best=by) == keep(there, keep_last=count, keep_best=by)


@given(st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=1, max_size=30), st.integers(1, 3))
def test_the_best_of_a_whole_run_survives_it(losses: list[float], count: int) -> None:
    """Deciding anew at every save loses none that a decision over all would have kept."""
    there: list[Manifest] = []
    for step, loss in enumerate(losses):
        there.append(manifest(step, loss=loss))
        kept = keep(there, keep_last=count, keep_best=LOSS)
        there = [each for each in there if each.name in kept]
    everything = [manifest(step, loss=loss) for step, loss in enumerate(losses)]
    assert {each.name for each in there} == keep(everything, keep_last=count, keep_best=LOSS)


@pytest.mark.parametrize("count", [0, -3])
def test_one_stays_whatever_is_asked(count: int) -> None:
    assert keep([manifest(1), manifest(2)], keep_last=count) == {"step-00000002.a1"}


def test_of_equals_the_older_is_the_best() -> None:
    there = [manifest(3, loss=1.0), manifest(1, loss=1.0), manifest(2, loss=2.0)]
    chosen = best(there, LOSS)
    assert chosen is not None
    assert chosen.step == 1


def test_without_numbers_there_is_no_best() -> None:
    assert best([manifest(1), manifest(2, loss=math.nan)], LOSS) is None


@given(manifests, st.integers(1, 4), st.integers(0, 50))
def test_only_later_steps_of_earlier_attempts_are_replaced(
    there: list[Manifest], attempt: int, from_step: int
) -> None:
    gone = superseded(there, attempt=attempt, from_step=from_step)
    for each in there:
        assert (each.name in gone) == (each.attempt < attempt and each.step > from_step)
    assert superseded(there, attempt=attempt, from_step=None) == set()

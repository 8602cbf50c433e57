"""Successive halving, as arithmetic and against Ray's."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweeping
from lehr.sweep.records import Report, Start
from lehr.sweep.rungs import GO_ON, Rungs, brackets, cutoff, milestones, reached

numbers = st.floats(-100, 100)
reports = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 26), numbers), max_size=40)


def rungs(scheduler: str = "asha", *, grace: float = 1 / 9, **search: Any) -> Rungs:
    return Rungs(sweeping.program(scheduler, **search).search, grace)


def start(trial: int) -> Start:
    return Start(trial, 1, f"hunt-{trial:04d}", {})


def say(halving: Rungs, trial: int, at: int, value: float, steps: int = 27) -> str:
    """The verdict on a report, which is then kept."""
    verdict, _ = halving.judge(start(trial), Report(at, steps, value))
    halving.keep(start(trial), Report(at, steps, value))
    return verdict


# --- milestones -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grace", "reduction", "expected"),
    [
        (1 / 9, 3, (1 / 9, 1 / 3)),
        (1 / 27, 3, (1 / 27, 1 / 9, 1 / 3)),
        (0.1, 4, (0.1, 0.4)),
        (0.5, 2, (0.5,)),
        (1.0, 3, ()),
    ],
)
def test_milestones_grow_by_the_reduction_and_stay_below_the_end(
    grace: float, reduction: int, expected: tuple[float, ...]
) -> None:
    assert milestones(grace, reduction) == pytest.approx(expected)


@given(st.integers(1, 200), st.integers(1, 12), st.integers(2, 5))
def test_a_milestone_that_is_a_whole_step_is_reached_by_that_step(
    first: int, factor: int, reduction: int
) -> None:
    steps = first * factor * reduction**3
    marks = milestones(first / steps, reduction)
    for place in range(len(marks)):
        step = first * reduction**place
        assert reached(marks, step, steps) == place + 1
        assert reached(marks, step - 1, steps) == place


# --- decisions --------------------------------------------------------------------------------------


def test_the_worse_end_and_the_better_go_on() -> None:
    halving = rungs()
    told = [say(halving, trial, 3, value) for trial, value in enumerate([5.0, 4.0, 6.0, 5.0, 3.0, 4.5], 1)]
    assert told == ["continue", "continue", "stop", "stop", "continue", "stop"]


def test_a_reason_names_the_value_the_place_and_what_would_go_on() -> None:
    halving = rungs(mode="max")
    say(halving, 1, 3, 0.9)
    verdict, reason = halving.judge(start(2), Report(4, 27, 0.5))
    assert verdict == "stop"
    assert all(part in reason for part in ("0.5", "11%", "0.9"))


def test_before_the_first_milestone_between_two_and_at_the_end_nobody_ends() -> None:
    halving = rungs()
    for at in (3, 9):
        say(halving, 1, at, 1.0)
    assert say(halving, 2, 2, 50.0) == "continue"
    say(halving, 2, 3, 0.5)
    assert say(halving, 2, 4, 50.0) == "continue"
    assert say(halving, 2, 27, 50.0) == "continue"


def test_of_several_milestones_passed_at_once_the_last_counts() -> None:
    halving = rungs()
    say(halving, 1, 9, 1.0)
    assert (
        say(halving, 2, 3, 50.0) == "continue"
    )  # nobody was kept there: trial 1 said nothing before a third
    assert say(halving, 3, 10, 50.0) == "stop"


def test_trials_of_different_lengths_meet_at_the_same_share() -> None:
    halving = rungs()
    say(halving, 1, 3, 1.0, steps=27)
    assert say(halving, 2, 3, 2.0, steps=54) == "continue"
    assert say(halving, 2, 6, 2.0, steps=54) == "stop"


@given(reports, st.integers(1, 26), numbers)
def test_the_first_and_equals_go_on(known: list[tuple[int, int, float]], at: int, value: float) -> None:
    assert rungs().judge(start(1), Report(at, 27, value)) == GO_ON
    halving = rungs()
    for trial, _, _ in known:
        halving.keep(start(trial), Report(at, 27, value))
    assert halving.judge(start(99), Report(at, 27, value)) == GO_ON


@given(reports, st.integers(1, 26), numbers, numbers, st.sampled_from(["asha", "hyperband"]))
def test_who_is_better_than_one_that_goes_on_goes_on(
    known: list[tuple[int, int, float]], at: int, one: float, other: float, scheduler: str
) -> None:
    halving = rungs(scheduler)
    for trial, when, value in known:
        halving.keep(start(trial), Report(when, 27, value))
    good, bad = (halving.judge(start(99), Report(at, 27, value))[0] for value in sorted((one, other)))
    assert (good, bad) != ("stop", "continue")


@given(reports, st.randoms(use_true_random=False), st.integers(1, 26), numbers, st.sets(st.integers(1, 12)))
def test_what_is_known_counts_and_not_when_it_was_heard(
    known: list[tuple[int, int, float]], chance: random.Random, at: int, value: float, gone: set[int]
) -> None:
    by_trial: dict[int, list[tuple[int, float]]] = {}
    for trial, when, said in known:
        by_trial.setdefault(trial, []).append((when, said))
    verdicts = set()
    for _ in range(3):
        halving, order = rungs("hyperband"), list(by_trial)
        chance.shuffle(order)
        for trial in order:
            for when, said in by_trial[trial]:
                halving.keep(start(trial), Report(when, 27, said))
            if trial in gone:
                halving.give_up(start(trial))
        verdicts.add(halving.judge(start(99), Report(at, 27, value)))
    assert len(verdicts) == 1


@given(reports, st.integers(1, 26), numbers)
def test_less_is_to_min_what_more_is_to_max(
    known: list[tuple[int, int, float]], at: int, value: float
) -> None:
    less, more = rungs(mode="min"), rungs(mode="max")
    for trial, when, said in known:
        less.keep(start(trial), Report(when, 27, said))
        more.keep(start(trial), Report(when, 27, -said))
    verdicts = less.judge(start(99), Report(at, 27, value)), more.judge(start(99), Report(at, 27, -value))
    assert verdicts[0][0] == verdicts[1][0]


def test_a_diverged_trial_is_the_worst_where_it_was_not() -> None:
    halving = rungs()
    for trial in (1, 2):
        say(halving, trial, 3, 1.0)
        halving.give_up(start(trial))
    halving.give_up(start(3))
    # At the first milestone: 1, 1 and the worst there is; at the second the worst only, and nobody is worse.
    assert say(halving, 4, 3, 2.0) == "stop"
    assert say(halving, 5, 9, 1e5) == "continue"
    assert say(halving, 6, 10, 2e5) == "continue"  # two of three of four are no better than a divergence
    for trial in range(7, 20):
        say(halving, trial, 9, 1.0)
    assert say(halving, 99, 9, 2.0) == "stop"


@given(st.lists(numbers, min_size=1, max_size=30), st.integers(2, 6))
def test_the_cutoff_is_numpys_percentile(scores: list[float], reduction: int) -> None:
    expected = np.percentile(scores, (1 - 1 / reduction) * 100)
    assert cutoff(sorted(scores), reduction) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.just(-math.inf) | numbers, min_size=1, max_size=30), st.integers(2, 6))
def test_divergences_leave_the_cutoff_a_number_or_nothing(scores: list[float], reduction: int) -> None:
    found = cutoff(sorted(scores), reduction)
    assert not math.isnan(found)
    worse = sum(score == -math.inf for score in scores)
    assert (found == -math.inf) == ((len(scores) - 1) * (reduction - 1) // reduction < worse)


# --- Hyperband's brackets ---------------------------------------------------------------------------


def test_brackets_have_hyperbands_proportions() -> None:
    """R = 9, eta = 3 of Li et al. 2018: 9, 5 and 3 trials (their table 1, scaled)."""
    order = brackets(3, 3)
    assert [order.count(own) for own in range(3)] == [9, 5, 3]


@given(st.integers(1, 6), st.integers(2, 5))
def test_the_shares_are_kept_after_any_number_of_trials(count: int, reduction: int) -> None:
    order = brackets(count, reduction)
    for own in range(count):
        share = order.count(own) / len(order)
        for number in range(1, len(order), max(1, len(order) // 50)):
            assert abs(order[:number].count(own) - share * number) < count


@given(reports, st.integers(1, 300), st.integers(1, 26), numbers)
def test_a_bracket_knows_no_earlier_milestone(
    known: list[tuple[int, int, float]], trial: int, at: int, value: float
) -> None:
    halving = rungs("hyperband")
    for other, when, said in known:
        halving.keep(start(other), Report(when, 27, said))
    order = brackets(3, 3)
    own = order[(trial - 1) % len(order)]
    if at < (3, 9, 27)[own]:
        assert halving.judge(start(trial), Report(at, 27, value)) == GO_ON


def test_brackets_do_not_compare_with_each_other() -> None:
    halving, order = rungs("hyperband"), brackets(3, 3)
    first, second = (order.index(own) + 1 for own in (0, 1))
    say(halving, first, 9, 0.0)
    assert say(halving, second, 9, 50.0) == "continue"
    assert say(halving, order.index(1, second) + 1, 9, 60.0) == "stop"


# --- against Ray ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("grace", "reduction", "steps"), [(3, 3, 27), (1, 2, 20), (2, 4, 50), (5, 3, 100)])
def test_it_decides_as_rays_scheduler_does(mode: str, grace: int, reduction: int, steps: int) -> None:
    schedulers = pytest.importorskip("ray.tune.schedulers")
    stopped = 0
    for seed in range(20):
        chance = random.Random(f"{seed} {mode} {grace}")
        ray = schedulers.AsyncHyperBandScheduler(
            time_attr="at", metric="value", mode=mode, max_t=steps, grace_period=grace,
            reduction_factor=reduction, stop_last_trials=False,
        )  # fmt: skip
        halving = rungs(grace=grace / steps, reduction=reduction, mode=mode)
        trials = {number: SimpleNamespace(trial_id=str(number)) for number in range(1, 30)}
        at = dict.fromkeys(trials, 0)
        for trial in trials.values():
            ray.on_trial_add(None, trial)
        while at:
            number = chance.choice(list(at))
            at[number] += chance.choice([1, 1, 2, 7])
            if at[number] >= steps:  # the end: nothing is left to decide
                del at[number]
                continue
            value = chance.gauss(0, 1)
            theirs = ray.on_trial_result(None, trials[number], {"at": at[number], "value": value})
            ours = say(halving, number, at[number], value, steps)
            assert (ours == "stop") == (theirs == "STOP"), (seed, number, at[number])
            if ours == "stop":
                stopped += 1
                del at[number]
    assert stopped > 100

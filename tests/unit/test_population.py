"""Population-based training: who copies whom, and what becomes of the parameters."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweeping
from lehr.spec.search import Range, Search
from lehr.sweep import space
from lehr.sweep.population import Population, explore
from lehr.sweep.records import Report, Source, Start

STEPS = 20


def population(size: int = 8, *, grace: float = 0.25, **search: Any) -> Population:
    return Population(sweeping.program("pbt", **search).search, grace, size)


def start(trial: int, segment: int = 1) -> Start:
    return Start(trial, segment, f"hunt-{trial:04d}-{segment}", {})


def say(among: Population, trial: int, at: int, value: float, segment: int = 1) -> str:
    verdict, _ = among.judge(start(trial, segment), Report(at, STEPS, value))
    among.keep(start(trial, segment), Report(at, STEPS, value))
    return verdict


def full(at: int = 5, **search: Any) -> Population:
    """Trials 1 to 7 of 8 have said 1.0 to 7.0."""
    found = population(**search)
    for trial in range(1, 8):
        found.keep(start(trial), Report(at, STEPS, float(trial)))
    return found


# --- who ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, "continue"), (5.5, "continue"), (6.5, "copy"), (9.0, "copy")]
)
def test_the_bottom_quarter_copies(value: float, verdict: str) -> None:
    assert say(full(), 8, 5, value) == verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, "copy"), (1.5, "copy"), (2.5, "continue"), (9.0, "continue")]
)
def test_with_more_being_better_it_is_the_other_end(value: float, verdict: str) -> None:
    assert say(full(mode="max"), 8, 5, value) == verdict


def test_a_reason_says_where_and_among_how_many() -> None:
    verdict, reason = full().judge(start(8), Report(5, STEPS, 9.0))
    assert verdict == "copy"
    assert all(part in reason for part in ("9", "25%", "2 of 8"))


def test_nobody_copies_before_half_of_the_population_was_there() -> None:
    among = population(8)
    told = [say(among, trial, 5, float(trial)) for trial in range(1, 8)]
    assert told == ["continue"] * 3 + ["copy"] * 4


def test_nobody_copies_between_looks_nor_at_the_end() -> None:
    among = full()
    assert say(among, 8, 4, 99.0) == "continue"
    assert say(among, 8, 5, 0.5) == "continue"
    assert say(among, 8, 6, 99.0) == "continue"
    for trial in range(1, 8):
        among.keep(start(trial), Report(STEPS, STEPS, float(trial)))
    assert say(among, 8, STEPS, 99.0) == "continue"


def test_equals_do_not_copy_each_other() -> None:
    among = population(4)
    assert [say(among, trial, 5, 1.0) for trial in (4, 3, 2, 1)] == ["continue"] * 4


def test_all_are_compared_as_they_were_at_the_same_look() -> None:
    among = population(4)
    for trial in (1, 2):
        for look, value in enumerate([4.0, 2.0, 1.0], 1):
            among.keep(start(trial), Report(5 * look, STEPS, value))
    assert say(among, 3, 5, 3.0) == "continue"  # better than the others were then, worse than they are now
    assert say(among, 3, 10, 3.0) == "copy"


@given(st.permutations(range(1, 8)), st.floats(-10, 10), st.sets(st.integers(1, 7), max_size=3))
def test_what_is_known_counts_and_not_when_it_was_heard(
    order: list[int], value: float, gone: set[int]
) -> None:
    among, other = population(), population()
    for among_these, trials in ((among, order), (other, sorted(order))):
        for trial in trials:
            among_these.keep(start(trial), Report(5, STEPS, float(trial)))
            if trial in gone:
                among_these.give_up(start(trial))
    for at in (5, 10):
        assert among.judge(start(8), Report(at, STEPS, value)) == other.judge(
            start(8), Report(at, STEPS, value)
        )
    among.keep(start(8), Report(5, STEPS, value))
    other.keep(start(8), Report(5, STEPS, value))
    assert among.source(8, 2) == other.source(8, 2)


# --- whom it copies ---------------------------------------------------------------------------------


@given(st.integers(8, 500), st.integers(2, 9), st.floats(-10, 10))
def test_a_source_is_among_the_best_at_the_trials_own_look(trial: int, segment: int, value: float) -> None:
    among = full()
    among.keep(start(trial), Report(5, STEPS, value))
    for number in range(1, 8):
        among.keep(start(number), Report(10, STEPS, -float(number)))  # at a look where the trial was not
    assert among.source(trial, segment) in [Source(number, f"hunt-{number:04d}-1", 5) for number in (1, 2)]
    assert among.source(trial, segment) == among.source(trial, segment)


def test_every_one_of_the_best_is_drawn() -> None:
    drawn = {source.trial for trial in range(8, 60) if (source := full().source(trial, 2))}
    assert drawn == {1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_a_search_of_another_seed_draws_others(seed: int) -> None:
    one, other = full(seed=seed), full(seed=seed + 1)
    assert [one.source(trial, 2) for trial in range(8, 60)] != [
        other.source(trial, 2) for trial in range(8, 60)
    ]


def test_a_trial_that_copied_is_copied_from_its_new_run() -> None:
    among = population(4)
    say(among, 1, 5, 9.0)
    for trial in (2, 3):
        say(among, trial, 5, 1.0)
    say(among, 1, 10, 0.1, segment=2)
    say(among, 2, 10, 5.0)
    assert among.source(2, 2) == Source(1, "hunt-0001-2", 10)


def test_one_that_diverges_counts_as_the_worst_and_copies_whoever_was_at_its_look() -> None:
    among = population(4)
    among.give_up(start(1))
    assert among.source(1, 2) is None
    say(among, 2, 5, 1.0)
    assert among.source(1, 2) == Source(2, "hunt-0002-1", 5)
    # The worst place is taken: with two known and one gone, one of three copies, and that is the one gone.
    assert say(among, 3, 5, 7.0) == "continue"
    say(among, 1, 10, 0.5, segment=2)  # the copy is whole again
    say(among, 2, 15, 1.0)
    assert say(among, 3, 15, 7.0) == "copy"


# --- what becomes of the parameters -----------------------------------------------------------------


def search(**ranges: Any) -> Search:
    return Search.model_validate({"space": ranges, "metric": "validation/loss", "scheduler": "pbt"})


def explored(given: Search, parameters: dict[str, Any], count: int = 400) -> list[dict[str, Any]]:
    return [explore(given, parameters, trial=trial, segment=2) for trial in range(1, count)]


@pytest.mark.parametrize(
    ("among", "value", "expected"),
    [
        ({"log": [1e-5, 1e-3]}, 1e-4, {8e-5, 1.25e-4}),
        ({"log": [1e-5, 1e-3]}, 1e-3, {8e-4, 1e-3}),
        ({"uniform": [0.0, 0.2]}, 0.1, {0.08, 0.125}),
        ({"int": [20, 120]}, 60, {48, 75}),
        ({"int": [20, 120]}, 22, {20, 28}),
        ({"int": [1, 9]}, 2, {1, 3}),  # 1.6 and 2.5 are both 2: it moves by one
        ({"int": [1, 9]}, 1, {1, 2}),
        ({"int": [20, 120], "step": 20}, 60, {40, 80}),
        ({"uniform": [0.1, 0.9], "step": 0.1}, 0.3, {0.2, 0.4}),
        ({"uniform": [-1.0, 1.0]}, -0.4, {-0.32, -0.5}),
    ],
)
def test_numbers_change_by_a_fifth_within_their_range(
    among: dict[str, Any], value: float, expected: set[float]
) -> None:
    found = [one["key"] for one in explored(search(key=among), {"key": value})]
    assert sorted(set(found)) == pytest.approx(sorted(expected))
    assert all(type(one) is type(value) for one in found)
    if len(expected) == 2:  # both ways are equally likely
        shares = [found.count(one) / len(found) for one in set(found)]
        assert min(shares) > 0.4


def test_a_quarter_of_the_choices_is_drawn_anew() -> None:
    found = [one["key"] for one in explored(search(key={"choice": [1, 2, 3, 4]}), {"key": 1}, 2000)]
    assert 0.75 < found.count(1) / len(found) < 0.87  # a fourth of those drawn anew is 1 again
    assert set(found) == {1, 2, 3, 4}


def test_what_varies_depends_on_the_new_values() -> None:
    given = search(
        kind={"choice": [1, 2]},
        rate={"log": [1e-3, 1.0], "when": {"kind": 1}},
        noise={"uniform": [0, 1], "when": {"kind": 2}},
    )
    found = explored(given, {"kind": 1, "rate": 0.1})
    assert {one["kind"] for one in found} == {1, 2}
    for one in found:
        assert space.contains(given.space, one)
        assert one["kind"] == 2 or one["rate"] in (pytest.approx(0.08), pytest.approx(0.125))
    assert len({one["noise"] for one in found if "noise" in one}) > 10


def test_what_is_no_longer_in_the_space_is_left() -> None:
    assert explore(search(key={"int": [1, 9]}), {"key": 4, "gone": 1}, trial=1, segment=2).keys() == {"key"}


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["log", "uniform", "int", "choice"]))
    if kind == "choice":
        return {kind: draw(st.lists(st.integers(-5, 5), min_size=1, max_size=5, unique=True))}
    if kind == "int":
        low, width = draw(st.integers(-50, 50)), draw(st.integers(1, 100))
        return {kind: [low, low + width]} | draw(
            st.sampled_from([{}, {"step": 1}, {"step": max(1, width // 3)}])
        )
    low = (
        draw(st.sampled_from([1e-5, 0.1, 3.0]))
        if kind == "log"
        else draw(st.sampled_from([-2.0, 0.0, 0.1, 7.0]))
    )
    width = draw(st.sampled_from([0.7, 1.0, 30.0]))
    return {kind: [low, low + width]} | draw(st.sampled_from([{}, {"step": 0.1}, {"step": width / 3}]))


@given(
    st.dictionaries(st.sampled_from("abcd"), ranges(), min_size=1), st.integers(1, 10**5), st.integers(2, 30)
)
def test_ten_copies_of_copies_stay_in_the_space(among: dict[str, Any], trial: int, segment: int) -> None:
    given = search(**among)
    parameters = {path: _some(one, trial) for path, one in given.space.items()}
    assert space.contains(given.space, parameters)
    for place in range(10):
        parameters = explore(given, parameters, trial=trial, segment=segment + place)
        assert space.contains(given.space, parameters)


def _some(among: Range, seed: int) -> Any:
    u = random.Random(seed).random()
    if among.count:
        return among.nth(int(u * among.count))
    return among.nearest(among.values[0] + u * (among.values[1] - among.values[0]))


def test_draws_are_addressed() -> None:
    given = search(rate={"log": [1e-5, 1e-3]}, steps={"int": [20, 120]})
    known = {"rate": 1e-4, "steps": 60}
    assert explore(given, known, trial=7, segment=3) == explore(given, known, trial=7, segment=3)
    found = {tuple(one.values()) for one in explored(given, known)}
    assert len(found) == 4  # the two keys change independently
    alone = search(steps={"int": [20, 120]})
    for trial in range(1, 30):  # nor does a draw depend on what else is searched
        both = explore(given, known, trial=trial, segment=2)["steps"]
        assert explore(alone, {"steps": 60}, trial=trial, segment=2)["steps"] == both


# --- that it is of use ------------------------------------------------------------------------------


def test_a_population_ends_better_than_the_same_trials_each_for_itself() -> None:
    """In arithmetic: the mean of the last values, in the median of twenty seeds."""
    ratios = []
    for seed in range(20):
        means = []
        for scheduler in ("pbt", "none"):
            program = sweeping.program(scheduler, trials=8, seed=seed)
            world = sweeping.World(program, seed=seed)
            world.run()
            last = [trial.last.value for trial in world.history.trials.values()]
            means.append(sum(value for value in last if value is not None) / len(last))
        ratios.append(means[0] / means[1])
    assert sorted(ratios)[10] < 0.95

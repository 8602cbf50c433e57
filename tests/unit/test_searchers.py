"""Proposers are pure functions: of a seed, a number, and what the journal says."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lehr.spec.search import Search
from lehr.sweep import parzen, searchers
from lehr.sweep import space as spaces
from lehr.sweep.observations import Observation, Observer
from lehr.sweep.records import History, Parameters, Report, Start, begun, over, reported
from lehr.sweep.rungs import milestones

ALGORITHMS = ("random", "tpe", "bohb")
MODELS = ("tpe", "bohb")
STEPS = 90
MARKS = (10, 30, 90)  # a ninth, a third, the end
SPACE: dict[str, Any] = {
    "train.optimizer.learning_rate": {"log": [1e-5, 1e-2]},
    "sampler.step_size": {"log": [1, 30]},
    "sampler.steps": {"int": [20, 120]},
    "sampler.buffer.fresh": {"uniform": [0.0, 0.2]},
}
ALL_KINDS: dict[str, Any] = SPACE | {
    "model.filters": {"choice": [[8, 16], [16, 32], "wide"]},
    "sampler.noise": {"uniform": [0.1, 0.7], "step": 0.1},
    "sampler.gradient_clip": {"int": [3, 30], "step": 9, "when": {"model.filters": ["wide", [8, 16]]}},
    "objective.weight": {"log": [0.1, 1.0], "when": {"sampler.gradient_clip": 12}},
}


def search(algorithm: str = "tpe", space: Any = None, *, seed: int = 0, **more: Any) -> Search:
    document = {"space": space or SPACE, "algorithm": algorithm, "metric": "validation/loss", "seed": seed}
    return Search.model_validate(document | more)


class Sweep:
    """A sweep whose trials are arithmetic: its history, and the journal that tells it.

    Args:
        searched: who proposes, and from where.
        loss: of parameters; None: they diverge.
    """

    def __init__(self, searched: Search, loss: Callable[[Parameters], float | None]) -> None:
        self.search, self.loss = searched, loss
        self.proposer = searchers.make(searched)
        self.history, self.journal = History(), list[dict[str, Any]]()

    def tell(self, entry: dict[str, Any]) -> None:
        self.journal.append(entry)
        self.history.apply(entry)

    def begin(self, parameters: Parameters | None = None) -> Start:
        number = len(self.history.trials) + 1
        parameters = parameters or self.proposer.propose(number, self.history)
        assert parameters is not None
        start = Start(number, 1, f"s-{number:04d}", parameters)
        self.tell(begun(start, STEPS, proposed=""))
        return start

    def end(self, start: Start, outcome: Any = "completed", marks: int = len(MARKS)) -> float | None:
        loss = self.loss(start.parameters)
        if loss is None:
            self.tell(over(start, "diverged", at=3))
            return None
        for at in MARKS[:marks]:
            self.tell(reported(start, Report(at, STEPS, loss + 1 - at / STEPS)))
        self.tell(over(start, outcome, at=MARKS[marks - 1] if marks else 0))
        return loss

    def run(self, trials: int) -> list[float]:
        """One after another; the losses of those that did not diverge."""
        found = [self.end(self.begin()) for _ in range(trials)]
        return [loss for loss in found if loss is not None]

    def restored(self) -> History:
        return History.read(json.loads(json.dumps(self.journal)))


def valley(parameters: Parameters) -> float:
    """Least, and 0, in the middle of SPACE."""
    places = (
        math.log10(parameters["train.optimizer.learning_rate"]) + 3.5,
        math.log10(parameters["sampler.step_size"] / 5.5),
        (parameters["sampler.steps"] - 70) / 50,
        (parameters["sampler.buffer.fresh"] - 0.1) / 0.1,
    )
    return sum(place**2 for place in places)


def anything(parameters: Parameters) -> float:
    return random.Random(repr(parameters)).random()


# --- pure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_asked_again_and_after_a_restart_it_says_the_same(algorithm: str) -> None:
    sweep = Sweep(search(algorithm, ALL_KINDS), anything)
    sweep.run(24)
    sweep.begin()
    for number in (26, 27):
        first = sweep.proposer.propose(number, sweep.history)
        assert sweep.proposer.propose(number, sweep.history) == first
        anew = searchers.make(Search.model_validate(json.loads(sweep.search.model_dump_json(by_alias=True))))
        again = anew.propose(number, sweep.restored())
        assert again == first
        assert json.dumps(again) == json.dumps(first), "types and order, too"


@pytest.mark.parametrize("algorithm", MODELS)
def test_another_process_with_other_hashes_says_the_same(algorithm: str, tmp_path: Path) -> None:
    sweep = Sweep(search(algorithm, ALL_KINDS), anything)
    sweep.run(24)
    (tmp_path / "sweep.json").write_text(
        json.dumps({"search": sweep.search.model_dump(by_alias=True), "journal": sweep.journal})
    )
    script = (
        "import json, sys; from lehr.spec.search import Search; from lehr.sweep import searchers;"
        "from lehr.sweep.records import History; told = json.load(open(sys.argv[1]));"
        "one = searchers.make(Search.model_validate(told['search'])), History.read(told['journal']);"
        "print(json.dumps([one[0].propose(n, one[1]) for n in (25, 26, 27)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "sweep.json")],
        env=os.environ | {"PYTHONHASHSEED": "77"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == "", "Optuna is silent"
    assert json.loads(done.stdout) == [sweep.proposer.propose(n, sweep.history) for n in (25, 26, 27)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_known_of_this_trial_and_later_ones_does_not_matter(algorithm: str) -> None:
    sweep = Sweep(search(algorithm), valley)
    sweep.run(20)
    first = sweep.proposer.propose(21, sweep.history)
    for parameters in (first, {**sweep.history.trials[1].parameters}):
        sweep.end(sweep.begin(parameters))
    assert sweep.proposer.propose(21, sweep.history) == first


def test_a_random_trial_is_a_function_of_seed_and_number_alone() -> None:
    one, other = Sweep(search("random", seed=5), valley), Sweep(search("random", seed=5), anything)
    one.run(10)
    assert one.proposer.propose(7, one.history) == other.proposer.propose(7, History())
    assert one.proposer.propose(7, History()) != one.proposer.propose(8, History())
    assert one.proposer.propose(7, History()) != searchers.make(search("random", seed=6)).propose(
        7, History()
    )


def test_a_further_key_changes_no_value_of_the_others() -> None:
    few = searchers.make(search("random", SPACE)).propose(3, History())
    many = searchers.make(search("random", ALL_KINDS)).propose(3, History())
    assert few is not None
    assert many is not None
    assert few.items() <= many.items()


@pytest.mark.parametrize("algorithm", MODELS)
def test_before_there_are_enough_results_proposals_are_the_random_ones(algorithm: str) -> None:
    sweep, chance = Sweep(search(algorithm), valley), searchers.make(search("random"))
    starts = [sweep.begin() for _ in range(7)]
    for start in starts:
        sweep.end(start)
    starts.append(sweep.begin() if algorithm == "tpe" else starts[0])
    assert [start.parameters for start in starts[:7]] == [chance.propose(n, History()) for n in range(1, 8)]
    assert starts[7].parameters == chance.propose(8 if algorithm == "tpe" else 1, History())
    sweep.run(6)
    assert any(
        trial.parameters != chance.propose(number, History())
        for number, trial in sweep.history.trials.items()
    )


def test_optuna_is_loaded_by_those_who_need_it() -> None:
    script = (
        "import sys; from lehr.spec.search import Search; from lehr.sweep import searchers;"
        "given = {'space': {'a': {'choice': [1]}}, 'metric': 'validation/loss'};"
        "[searchers.make(Search.model_validate(given | {'algorithm': name})) for name in ('grid', 'random')];"
        "print('optuna' in sys.modules, 'tensorflow' in sys.modules, 'ray' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert told.stdout.split() == ["False"] * 3


# --- in the space --------------------------------------------------------------------------------------


def test_values_are_plain_and_exact() -> None:
    proposer = searchers.make(search("random", ALL_KINDS))
    found = [proposer.propose(number, History()) or {} for number in range(1, 200)]
    noises = {one["sampler.noise"] for one in found}
    assert noises == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}, "no 0.30000000000000004"
    assert {type(one["sampler.steps"]) for one in found} == {int}
    assert {type(one["train.optimizer.learning_rate"]) for one in found} == {float}
    assert {json.dumps(one["model.filters"]) for one in found} == {"[8, 16]", "[16, 32]", '"wide"'}
    assert {one.get("sampler.gradient_clip") for one in found} == {None, 3, 12, 21, 30}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_conditions_are_kept_to(algorithm: str) -> None:
    sweep = Sweep(search(algorithm, ALL_KINDS), anything)
    sweep.run(30)
    seen = [trial.parameters for trial in sweep.history.trials.values()]
    assert all(("sampler.gradient_clip" in one) == (one["model.filters"] != [16, 32]) for one in seen)
    assert all(("objective.weight" in one) == (one.get("sampler.gradient_clip") == 12) for one in seen)
    assert 0 < sum("sampler.gradient_clip" in one for one in seen) < 30
    assert all(spaces.contains(sweep.search.space, one) for one in seen)


numbers = st.floats(1e-6, 1e6, allow_nan=False)
ends = st.tuples(numbers, numbers).filter(lambda pair: pair[0] * 1.001 < pair[1]).map(list)
wholes = st.tuples(st.integers(-50, 50), st.integers(1, 200)).map(lambda pair: [pair[0], sum(pair)])
choices = st.lists(
    st.one_of(st.integers(0, 9), st.booleans(), st.text("ab", max_size=2), st.lists(st.integers(0, 9))),
    min_size=1, max_size=4, unique_by=json.dumps,
)  # fmt: skip
steps = st.sampled_from([0.1, 0.25, 0.3, 1.0])
ranges = st.one_of(
    st.fixed_dictionaries({"log": ends}),
    st.fixed_dictionaries({"uniform": ends}),
    st.builds(lambda low, step, count: {"uniform": [low, low + step * (count + 0.5)], "step": step},
              st.integers(-30, 30).map(lambda n: n / 10), steps, st.integers(1, 9)),
    st.builds(lambda high, step: {"log": [0.1, high], "step": step}, st.floats(2, 9), steps),
    st.fixed_dictionaries({"int": wholes}),
    st.builds(lambda low, step, count: {"int": [low, low + step * count], "step": step},
              st.integers(-9, 9), st.integers(1, 7), st.integers(1, 9)),
    st.fixed_dictionaries({"choice": choices}),
)  # fmt: skip


@st.composite
def random_spaces(draw: Any) -> dict[str, Any]:
    """Up to four ranges; some vary only with a value of a choice before them."""
    space: dict[str, Any] = {"a.kind": {"choice": draw(choices)}}
    for path in ("b", "c.d", "e"):
        if draw(st.booleans()):
            when = {"when": {"a.kind": [draw(st.sampled_from(space["a.kind"]["choice"]))]}}
            space[path] = draw(ranges) | (when if draw(st.booleans()) else {})
    return space


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    random_spaces(), st.sampled_from(ALGORITHMS), st.integers(0, 2**63 - 1), st.sampled_from(["min", "max"])
)
def test_every_proposal_lies_in_the_space(space: Any, algorithm: str, seed: int, mode: str) -> None:
    sweep = Sweep(search(algorithm, space, seed=seed, mode=mode), anything)
    sweep.run(11)
    sweep.begin()
    for trial in sweep.history.trials.values():
        assert spaces.contains(sweep.search.space, trial.parameters)
        assert list(trial.parameters) == [path for path in space if path in trial.parameters]
        assert json.loads(json.dumps(trial.parameters)) == trial.parameters


@pytest.mark.parametrize("algorithm", MODELS)
def test_what_a_changed_space_left_outside_says_nothing(algorithm: str) -> None:
    sweep = Sweep(search(algorithm, SPACE), valley)
    sweep.run(20)
    narrow = {path: one for path, one in SPACE.items() if path != "sampler.buffer.fresh"}
    narrow |= {"sampler.steps": {"int": [70, 72]}, "train.seed": {"choice": [1, 2]}}
    changed = search(algorithm, narrow)
    found = searchers.make(changed).propose(21, sweep.history)
    assert found is not None
    assert spaces.contains(changed.space, found)


# --- a grid --------------------------------------------------------------------------------------------

GRID = {"a": {"choice": [1, 2]}, "b": {"int": [1, 9], "step": 4}, "c": {"choice": ["x"], "when": {"a": 2}}}


def test_a_grid_is_complete_without_doubles_and_ends() -> None:
    sweep = Sweep(search("grid", GRID), anything)
    sweep.run(6)
    seen = [trial.parameters for trial in sweep.history.trials.values()]
    assert seen == list(spaces.combinations(sweep.search.space))
    assert len({json.dumps(one) for one in seen}) == 6
    assert sweep.proposer.propose(7, sweep.history) is None
    assert [sweep.proposer.propose(n, History()) for n in range(1, 7)] == seen, "by number alone, too"


def test_a_grid_that_grew_has_the_rest_and_nothing_twice() -> None:
    sweep = Sweep(search("grid", GRID), anything)
    sweep.run(4)
    larger = GRID | {"b": {"int": [1, 13], "step": 4}}
    sweep.proposer = searchers.make(search("grid", larger))
    sweep.run(4)
    seen = [json.dumps(trial.parameters) for trial in sweep.history.trials.values()]
    assert sorted(seen) == sorted(
        json.dumps(one) for one in spaces.combinations(search("grid", larger).space)
    )
    assert sweep.proposer.propose(9, sweep.history) is None


# --- models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("algorithm", MODELS)
def test_a_model_finds_more_than_chance_in_the_median_of_seeds(algorithm: str, mode: str) -> None:
    sign = 1 if mode == "min" else -1

    def best(algorithm: str, seed: int) -> float:
        sweep = Sweep(search(algorithm, seed=seed, mode=mode), lambda one: sign * valley(one))
        return min(sign * loss for loss in sweep.run(40))

    seeds = range(20 if (mode, algorithm) == ("min", "tpe") else 5)
    modelled, chance = ([best(one, seed) for seed in seeds] for one in (algorithm, "random"))
    assert statistics.median(modelled) < 0.5 * statistics.median(chance)


@pytest.mark.parametrize("algorithm", MODELS)
def test_those_that_run_do_not_get_the_same(algorithm: str) -> None:
    sweep = Sweep(search(algorithm), valley)
    sweep.run(20)
    running = [sweep.begin().parameters for _ in range(8)]
    rates = [one["train.optimizer.learning_rate"] for one in running]
    assert len(set(rates)) == 8


@pytest.mark.parametrize("algorithm", MODELS)
def test_where_there_are_few_nothing_is_tried_twice_while_something_is_left(algorithm: str) -> None:
    sweep = Sweep(search(algorithm, {"a": {"choice": list(range(12))}}), lambda one: abs(one["a"] - 6.0))
    sweep.run(5)
    known = {trial.parameters["a"] for trial in sweep.history.trials.values()}
    for _ in range(4):
        fresh = sweep.begin().parameters["a"]
        assert fresh not in known
        known.add(fresh)
    for a in range(12):
        sweep.end(sweep.begin({"a": a}))
    assert sweep.begin().parameters["a"] in range(12), "then something is"


def halves(parameters: Parameters) -> float | None:
    """Large learning rates diverge."""
    return None if parameters["train.optimizer.learning_rate"] > 10**-3.5 else valley(parameters)


@pytest.mark.parametrize("algorithm", MODELS)
def test_what_diverged_is_kept_away_from(algorithm: str) -> None:
    shares = []
    for seed in range(4):
        sweep = Sweep(search(algorithm, seed=seed), halves)
        sweep.run(36)
        late = [trial.diverged for number, trial in sweep.history.trials.items() if number > 16]
        shares.append(sum(late) / len(late))
    assert statistics.mean(shares) < 0.35, "of half of the space"


@given(st.lists(st.sampled_from(["whole", "part", "running", "diverged"]), max_size=80))
def test_those_that_diverged_never_count_as_good(states: list[Any]) -> None:
    known = [
        Observation(n, {}, one, {1: 0.0} if one in ("whole", "part") else {}) for n, one in enumerate(states)
    ]
    valued = sum(1 for one in known if one.values)
    kept = parzen.fewer_diverged(known, valued)
    good = math.ceil(sum(one.state != "running" for one in kept) / 10)  # as Optuna's sampler counts
    assert good <= valued or not valued
    assert [one for one in kept if one.state != "diverged"] == [
        one for one in known if one.state != "diverged"
    ]
    left_out = [one.number for one in known if one not in kept]
    assert not left_out or max(left_out) < min(one.number for one in kept if one.state == "diverged")
    assert not left_out or len(kept) >= 10 * valued, "no more than need be"


def test_what_was_stopped_early_is_used() -> None:
    """All information is in trials that were stopped at the first milestone."""
    sweep = Sweep(search("tpe"), valley)
    for number in range(1, 31):
        start = sweep.begin(searchers.drawn(sweep.search, number))
        sweep.end(start, "stopped", marks=1)
    found = [searchers.make(search("tpe", seed=seed)).propose(31, sweep.history) or {} for seed in range(10)]
    chance = [searchers.drawn(search("random", seed=seed), 31) for seed in range(10)]
    assert statistics.mean(map(valley, found)) < 0.5 * statistics.mean(map(valley, chance))


def test_bohb_looks_at_the_highest_milestone_with_enough_values() -> None:
    """What is good at the first milestone is bad at the second; only there are few trials."""
    searched = search("bohb")
    assert milestones(1 / 9, 3) == (1 / 9, 1 / 3)
    observer = Observer(searched, milestones(1 / 9, 3))
    model: Any = searchers.make(searched)

    def known(*levels: int) -> list[Observation]:
        return [
            Observation(n, {}, "part", dict.fromkeys(range(1, level + 1), 0.0))
            for n, level in enumerate(levels)
        ]

    assert observer.end == 3
    assert model._level(known(1, 1, 1, 1, 1, 1)) == (0, 0)
    assert model._level(known(1, 1, 1, 1, 1, 1, 1)) == (1, 7), "three more than there are keys"
    assert model._level(known(1, 1, *[2] * 7)) == (2, 7)
    assert model._level(known(*[3] * 6, 2)) == (2, 7)
    assert model._level(known(*[3] * 8)) == (3, 8)


def test_a_third_of_bohbs_proposals_are_random() -> None:
    sweep = Sweep(search("bohb"), valley)
    sweep.run(20)
    by_chance = [
        sweep.proposer.propose(number, sweep.history) == searchers.drawn(sweep.search, number)
        for number in range(21, 141)
    ]
    assert 0.2 < statistics.mean(by_chance) < 0.47


# --- what is observed ----------------------------------------------------------------------------------


def observed(outcome: Any, *reports: tuple[int, float], mode: str = "min") -> list[Observation]:
    searched = search(mode=mode)
    start = Start(1, 1, "s-0001", {"a": 1})
    entries = [begun(start, STEPS, proposed="")]
    entries += [reported(start, Report(at, STEPS, value)) for at, value in reports]
    entries += [over(start, outcome, at=reports[-1][0] if reports else 0)] if outcome else []
    return Observer(searched, milestones(1 / 9, 3)).look(History.read(entries), before=2)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("completed", "whole"),
        ("stopped", "part"),
        ("failed", "part"),
        ("interrupted", "part"),
        (None, "running"),
    ],
)
def test_a_value_is_filed_under_the_first_milestone_that_it_reaches(outcome: Any, state: str) -> None:
    reports = (5, 9.0), (10, 8.0), (20, 7.0), (35, 6.0), (60, 2.0), (90, 3.0)
    filed = {0: 9.0, 1: 8.0, 2: 6.0} | ({3: 2.0} if outcome == "completed" else {})
    assert observed(outcome, *reports) == [Observation(1, {"a": 1}, state, filed)]  # type: ignore[arg-type]
    if outcome == "completed":
        assert observed(outcome, *reports, mode="max")[0].values[3] == 9.0


def test_what_ended_without_a_value_says_nothing_unless_it_diverged_or_runs() -> None:
    assert observed("failed") == observed("interrupted") == []
    assert [one.state for one in observed(None)] == ["running"]
    assert [(one.state, one.values) for one in observed("diverged", (10, 1.0))] == [("diverged", {})]


def test_optuna_gets_what_was_observed() -> None:
    searched = search("tpe", ALL_KINDS)
    one = Observation(3, searchers.drawn(searched, 3), "part", {1: 0.5})
    told: Any = parzen.Tpe(searched, 1 / 9)._told(one)
    assert (told.state.name, told.value, told.intermediate_values) == ("PRUNED", None, {1: 0.5})
    back = {path: parzen.value_at(searched.space[path], place) for path, place in told.params.items()}
    assert back == one.parameters

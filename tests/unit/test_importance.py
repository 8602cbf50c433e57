"""How much each key matters: what was put in comes out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from lehr.spec.search import Search
from lehr.sweep import importance, searchers
from lehr.sweep.importance import importances, ranks
from lehr.sweep.program import Program
from lehr.sweep.records import History, Parameters, Report, Source, Start, begun, over, reported
from sweeping import Program as Asked

SPACE: dict[str, Any] = {
    "rate": {"log": [1e-5, 1e-1]},
    "steps": {"int": [20, 120]},
    "fresh": {"uniform": [0.0, 0.2]},
}


def program(space: Any = None, *, mode: str = "min", seed: int = 0) -> Program:
    given = {"space": space or SPACE, "algorithm": "random", "metric": "validation/loss", "mode": mode}
    return cast(Program, Asked(Search.model_validate(given | {"seed": seed}), trials=8))


def history(entries: Iterable[dict[str, Any]]) -> History:
    return History.read(json.loads(json.dumps(list(entries))))


def entries(
    asked: Program, loss: Callable[[Parameters], float | None], trials: int = 30, outcome: Any = "completed"
) -> Iterable[dict[str, Any]]:
    for number in range(1, trials + 1):
        start = Start(number, 1, f"s-{number}", searchers.drawn(asked.search, number))
        value = loss(start.parameters)
        yield begun(start, 10, proposed="")
        if value is None:
            yield over(start, "diverged", at=3)
        else:
            yield reported(start, Report(10, 10, value))
            yield over(start, outcome, at=10)


def told(asked: Program, loss: Callable[[Parameters], float | None], **more: Any) -> dict[str, float]:
    return importances(asked, history(entries(asked, loss, **more)))


def by_rate(one: Parameters) -> float:
    return abs(math.log10(one["rate"]) + 3) + 0.001 * one["steps"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_key_that_decides_has_nearly_all(mode: str) -> None:
    shares = told(program(mode=mode), by_rate)
    assert next(iter(shares)) == "rate", "most first"
    assert shares["rate"] > 0.75
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares.keys() == SPACE.keys()
    assert {type(share) for share in shares.values()} == {float}


def test_it_is_the_same_each_time_and_after_a_restart() -> None:
    asked = program(seed=2**63 - 1)
    assert told(asked, by_rate) == told(asked, by_rate)


def test_the_scale_of_the_values_does_not_matter() -> None:
    """One trial that almost diverged would else be all the variance."""
    asked = program()
    assert told(asked, lambda one: math.exp(9 * by_rate(one))) == told(asked, by_rate)


def test_small_rates_weigh_as_much_as_large_ones() -> None:
    """On the plain axis, four of five decades would be a hundredth of the range."""
    shares = told(program(), lambda one: by_rate(one) if one["rate"] < 1e-2 else 1.0)
    assert shares["rate"] > 0.6


@pytest.mark.parametrize("outcome", ["completed", "stopped"])
def test_those_that_diverged_are_the_worst(outcome: str) -> None:
    shares = told(
        program(), lambda one: None if one["fresh"] > 0.12 else 1 + 1e-9 * one["steps"], outcome=outcome
    )
    assert next(iter(shares)) == "fresh"
    assert shares["fresh"] > 0.5


def test_choices_of_any_kind_and_keys_that_vary_in_some_trials() -> None:
    space: dict[str, Any] = SPACE | {
        "filters": {"choice": [[8, 16], [16, 32], {"wide": True}]},
        "noise": {"log": [0.1, 1.0], "when": {"filters": [[8, 16], [16, 32]]}},
        "kind": {"choice": ["a", "b"], "when": {"filters": {"wide": True}}},
    }
    shares = told(program(space), lambda one: {"[8, 16]": 0.0, "[16, 32]": 1.0}.get(str(one["filters"]), 2.0))
    assert shares.keys() == space.keys()
    assert next(iter(shares)) == "filters"
    assert shares["filters"] > 0.5


def test_where_nothing_can_be_told_there_is_nothing() -> None:
    asked = program()
    assert told(asked, by_rate, trials=3) == {}
    assert told(asked, by_rate, trials=4) != {}
    assert told(asked, by_rate, outcome="failed") == {}, "they are not over"
    assert told(asked, by_rate, outcome="interrupted") == {}
    assert told(asked, lambda one: 1.0) == {}, "all are equal"
    assert told(asked, lambda one: None) == {}, "all diverged"
    assert told(program({"rate": SPACE["rate"]}), lambda one: one["rate"]) == {}, "one key"
    assert importances(asked, History()) == {}


def test_trials_outside_of_a_changed_space_are_left_out() -> None:
    wide, narrow = program(), program(SPACE | {"steps": {"int": [20, 60]}, "seed": {"choice": [1, 2]}})
    shares = importances(narrow, history(entries(wide, by_rate, trials=60)))
    assert shares["rate"] > 0.6
    assert shares["seed"] == 0.0


def test_a_copy_counts_with_the_parameters_that_led_to_its_best_value() -> None:
    """Each trial goes on as a copy under parameters that make it worse."""
    asked, changed = program(), program(seed=1)

    def segments() -> Iterable[dict[str, Any]]:
        for number in range(1, 31):
            start = Start(number, 1, f"s-{number}", searchers.drawn(asked.search, number))
            yield begun(start, 10, proposed="")
            yield reported(start, Report(5, 10, by_rate(start.parameters), "copy"))
            yield over(start, "copied", at=5)
            copy = Start(
                number, 2, f"s-{number}-2", searchers.drawn(changed.search, number), Source(1, "s-1", 5)
            )
            yield begun(copy, 10, proposed="")
            yield reported(copy, Report(10, 10, 99.0))
            yield over(copy, "completed", at=10)

    assert importances(asked, history(segments())) == told(asked, by_rate)


def test_equals_share_a_rank() -> None:
    assert ranks([3.0, 1.0, math.inf, 1.0, math.inf]) == [2.0, 0.5, 3.5, 0.5, 3.5]
    assert ranks([]) == []


def test_of_very_many_trials_some_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Parameters]] = []

    def fanova(
        space: Any, parameters: list[Parameters], scores: list[float], *, seed: int
    ) -> dict[str, float]:
        seen.append(parameters)
        return {}

    monkeypatch.setattr(importance, "_fanova", fanova)
    monkeypatch.setattr(importance, "MOST", 5)
    asked = program()
    for trials, taken in ((17, [1, 5, 9, 13, 17]), (5, [1, 2, 3, 4, 5]), (4, [1, 2, 3, 4])):
        told(asked, by_rate, trials=trials)
        assert seen[-1] == [searchers.drawn(asked.search, number) for number in taken]

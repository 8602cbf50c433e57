"""Spaces: corners, grids, conditions, and what contains what."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.spec.search import Range
from lehr.sweep import space as spaces
from lehr.sweep.space import Space


def made(**words: Any) -> Space:
    return {path: Range.model_validate(given) for path, given in words.items()}


PLAIN = made(a={"int": [1, 9]}, b={"log": [0.1, 1.0]}, c={"choice": ["x", "y", "z"]})
# d hangs on c, which is written after it; e on d.
HANGING = made(
    d={"int": [1, 3], "when": {"c": "y"}},
    c={"choice": ["x", "y", "z"]},
    e={"choice": [True, False], "when": {"d": [2, 3], "c": ["x", "y"]}},
)


def test_corners_are_all_ends_and_choices() -> None:
    found = list(spaces.corners(PLAIN))
    assert found == [
        dict(zip("abc", values, strict=True))
        for values in itertools.product((1, 9), (0.1, 1.0), ("x", "y", "z"))
    ]


def test_a_condition_is_looked_at_after_what_it_names() -> None:
    assert spaces.ordered(HANGING) == ["c", "d", "e"]
    assert spaces.active(HANGING, {"c": "x"}) == ["c"]
    assert spaces.active(HANGING, {"c": "y", "d": 1}) == ["c", "d"]
    assert spaces.active(HANGING, {"c": "y", "d": 2}) == ["c", "d", "e"]
    assert spaces.active(HANGING, {"c": "x", "d": 2}) == ["c"], "what d would be does not count"


def test_the_grid_has_only_what_is_active() -> None:
    assert list(spaces.combinations(HANGING)) == [
        {"c": "x"},
        {"c": "y", "d": 1},
        {"c": "y", "d": 2, "e": True},
        {"c": "y", "d": 2, "e": False},
        {"c": "y", "d": 3, "e": True},
        {"c": "y", "d": 3, "e": False},
        {"c": "z"},
    ]
    assert spaces.size(HANGING) == 7


def test_the_size_of_a_grid() -> None:
    assert spaces.size(made(a={"int": [1, 9]}, c={"choice": ["x", "y"]})) == 18
    assert spaces.size(made(a={"uniform": [0, 1], "step": 0.25})) == 5
    assert spaces.size(PLAIN) is None


def test_a_grid_too_large_to_try_is_counted_at_once() -> None:
    wide = made(a={"int": [0, 100_000]}, b={"int": [5, 2000], "when": {"a": [1, 2]}},
                c={"uniform": [0.001, 0.1], "step": 0.00001})  # fmt: skip
    assert (spaces.size(wide) or 0) > 100_000
    few = made(a={"int": [0, 1000]}, b={"int": [5, 9], "when": {"a": [1, 2, 2000]}})
    assert spaces.size(few) == 999 + 2 * 5
    pairs = {f"k{number:02d}": {"choice": [True, False]} for number in range(40)}
    hanging = {f"z{number:02d}": {"int": [1, 2], "when": {f"k{number:02d}": True}} for number in range(40)}
    assert (spaces.size(made(**pairs, **hanging)) or 0) > 100_000, "it does not count them all"


def test_a_grid_is_not_laid_out_before_it_is_wanted() -> None:
    huge = made(a={"choice": ["x", "y"]}, b={"int": [0, 2**50]})
    assert list(itertools.islice(spaces.combinations(huge), 2)) == [{"a": "x", "b": 0}, {"a": "x", "b": 1}]


def test_too_many_corners_become_ends_and_pairs() -> None:
    wide = made(**{f"k{number:02d}": {"uniform": [0.0, 1.0]} for number in range(12)})
    found = list(spaces.corners(wide))
    assert len(found) == 1 + 12 + 66, "none, one, or two at their upper end"
    assert all(parameters.keys() == wide.keys() for parameters in found)
    seen = {tuple(path for path, value in parameters.items() if value == 1.0) for parameters in found}
    assert seen == {tuple(sorted(some)) for many in (0, 1, 2) for some in itertools.combinations(wide, many)}


def test_each_choice_of_many_is_looked_at() -> None:
    wide = made(a={"choice": list(range(50))}, b={"choice": list(range(50))})
    found = list(spaces.corners(wide))
    assert {parameters["a"] for parameters in found} == set(range(50))
    assert len(found) == 50 * 50, "each with each"


def test_there_are_not_too_many_pairs_of_choices() -> None:
    wide = made(a={"choice": list(range(500))}, b={"choice": list(range(500))})
    found = list(spaces.corners(wide))
    assert {parameters["a"] for parameters in found} == set(range(500))
    assert {"a": 1, "b": 2} in found
    assert {"a": 499, "b": 499} in found
    assert len(found) <= spaces.PAIRS + 1000


def test_values_bring_their_conditions() -> None:
    assert spaces.with_values(HANGING, {"e": False}) == {"c": "y", "d": 2, "e": False}
    assert spaces.with_values(HANGING, {"e": True, "d": 3}) == {"c": "y", "d": 3, "e": True}
    assert spaces.with_values(HANGING, {"d": 1, "c": "x"}) is None


@pytest.mark.parametrize(
    ("parameters", "there"),
    [
        ({"c": "x"}, True),
        ({"c": "w"}, False),
        ({"c": "y"}, False),
        ({"c": "y", "d": 1}, True),
        ({"c": "x", "d": 1}, False),
        ({"c": "y", "d": 4}, False),
        ({"c": "x", "f": 1}, False),
        ({}, False),
    ],
)
def test_what_a_space_contains(parameters: dict[str, Any], there: bool) -> None:
    assert spaces.contains(HANGING, parameters) is there


def test_differences_are_lines() -> None:
    new = made(a={"int": [1, 20]}, b={"log": [0.1, 1.0]}, d={"choice": [1]})
    assert spaces.differences(PLAIN, new) == [
        'a: {"int": [1, 9]} -> {"int": [1, 20]}',
        'c: {"choice": ["x", "y", "z"]} -> absent',
        'd: absent -> {"choice": [1]}',
    ]
    assert spaces.differences(PLAIN, PLAIN) == []


ranges = st.one_of(
    st.tuples(st.integers(-5, 5), st.integers(1, 4)).map(lambda at: {"int": [at[0], at[0] + at[1]]}),
    st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(lambda some: {"choice": some}),
    st.sampled_from([{"uniform": [0.0, 0.5], "step": 0.25}, {"log": [1.0, 3.0], "step": 1.0}]),
)


@st.composite
def countable(draw: st.DrawFn) -> Space:
    """A space whose ranges may hang on those before them."""
    words: dict[str, dict[str, Any]] = {}
    for path in "abcd"[: draw(st.integers(1, 4))]:
        given = dict(draw(ranges))
        if words and draw(st.booleans()):
            other = draw(st.sampled_from(sorted(words)))
            values = list(Range.model_validate(words[other]).all())
            given["when"] = {other: draw(st.lists(st.sampled_from(values), min_size=1, max_size=2))}
        words[path] = given
    return made(**words)


@given(countable())
def test_a_grid_is_what_the_space_contains(space: Space) -> None:
    grid = list(spaces.combinations(space))
    assert len(grid) == spaces.size(space) == len({json.dumps(one, sort_keys=True) for one in grid})
    assert all(spaces.contains(space, parameters) for parameters in grid)
    assert list(spaces.combinations(space)) == grid
    every = itertools.product(*([*given.all(), None] for given in space.values()))
    found = [{path: value for path, value in zip(space, values, strict=True) if value is not None}
             for values in every]  # fmt: skip
    assert sum(spaces.contains(space, parameters) for parameters in found) == len(grid)


@given(countable())
def test_corners_are_in_the_space_and_each_end_is_in_one(space: Space) -> None:
    found = list(spaces.corners(space))
    assert all(spaces.contains(space, parameters) for parameters in found)
    for path, among in space.items():
        if any(path in parameters for parameters in found):
            assert {json.dumps(parameters[path]) for parameters in found if path in parameters} >= {
                json.dumps(end) for end in among.ends
            }

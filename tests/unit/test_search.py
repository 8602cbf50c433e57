"""One range of a search: what it can give, exactly, and how it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.spec.search import Range, canonical


def made(**words: Any) -> Range:
    return Range.model_validate(words)


numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 4))
steps = st.sampled_from([0.001, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0])
stepped = st.builds(
    lambda kind, low, step, places, rest: made(**{kind: [low, low + (places + rest) * step], "step": step}),
    st.just("uniform"), numbers, steps, st.integers(1, 300), st.floats(0.01, 0.5),
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ({"int": [3, 6]}, [3, 4, 5, 6]),
        ({"int": [3, 9], "step": 2}, [3, 5, 7, 9]),
        ({"int": [3, 8], "step": 2}, [3, 5, 7]),
        ({"uniform": [0.0, 0.5], "step": 0.1}, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"uniform": [0.05, 0.3], "step": 0.1}, [0.05, 0.15, 0.25]),
        ({"log": [16, 20], "step": 1}, [16, 17, 18, 19, 20]),
        ({"log": [1e-3, 5e-3], "step": 1e-3}, [0.001, 0.002, 0.003, 0.004, 0.005]),
        ({"choice": ["relu", None, [8, 16]]}, ["relu", None, [8, 16]]),
    ],
)
def test_what_a_range_gives(words: dict[str, Any], values: list[Any]) -> None:
    found = list(made(**words).all())
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]
    assert made(**words).count == len(values)
    assert [made(**words).nth(place) for place in range(len(values))] == values


def test_small_steps_of_a_wide_range_are_exact() -> None:
    given = made(uniform=[0.0, 1e15], step=0.125)
    assert given.count == 8 * 10**15 + 1
    assert given.ends == (0.0, 1e15)
    assert given.nearest(1e15 - 0.126) == 1e15 - 0.125


@pytest.mark.parametrize(
    "words",
    [{"int": [0, 10**30]}, {"int": [0, 2**53]}, {"uniform": [0, 1], "step": 1e-40},
     {"log": [1e-300, 1e300], "step": 1e-300}],
)  # fmt: skip
def test_more_values_than_a_float_tells_apart(words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="more values than a float can tell apart"):
        made(**words)
    assert made(int=[1, 2**53]).count == 2**53


def test_a_condition_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.b: an empty list"):
        made(int=[1, 2], when={"a.b": []})


def test_a_continuous_range_is_not_counted() -> None:
    assert made(log=[1e-5, 1e-3]).count is None
    assert made(uniform=[0, 1]).ends == (0.0, 1.0)


def test_the_upper_end_is_the_last_that_is_reached() -> None:
    assert made(int=[20, 119], step=10).ends == (20, 110)


@given(stepped)
def test_steps_are_exact_and_survive_json(given: Range) -> None:
    assert given.count is not None
    for place in {0, 1, given.count - 1}:
        value = given.nth(place)
        assert len(repr(value)) <= 16, "no 0.30000000000000004"
        assert given.contains(json.loads(json.dumps(value)))
        assert given.nearest(value) == value


@given(stepped, st.floats(-2e6, 2e6))
def test_the_nearest_is_in_the_range_and_nearest(given: Range, value: float) -> None:
    assert given.step is not None
    assert given.count is not None
    near = given.nearest(value)
    low, high = given.ends[0], given.ends[-1]
    assert low <= near <= high
    assert given.contains(near)
    inside = min(max(value, low), high)
    assert abs(near - inside) <= given.step / 2 * (1 + 1e-6)


@pytest.mark.parametrize(
    ("words", "value", "there"),
    [
        ({"int": [3, 6]}, 3, True),
        ({"int": [3, 6]}, 7, False),
        ({"int": [3, 6]}, 3.5, False),
        ({"int": [0, 1]}, True, False),
        ({"int": [3, 6]}, "3", False),
        ({"int": [3, 9], "step": 2}, 4, False),
        ({"log": [1e-5, 1e-3]}, 1e-3, True),
        ({"log": [1e-5, 1e-3]}, 2e-3, False),
        ({"uniform": [0, 1]}, 0, True),
        ({"uniform": [0, 1]}, float("nan"), False),
        ({"uniform": [0, 1], "step": 0.5}, float("nan"), False),
        ({"int": [3, 6]}, float("inf"), False),
        ({"int": [3, 6]}, 10**400, False),
        ({"choice": [0.5, 1]}, 1.0, True),
        ({"choice": [0.5, 1]}, True, False),
        ({"choice": [[8, 16]]}, [8, 16], True),
        ({"choice": [[8, 16]]}, (8, 16), True),
        ({"choice": [None]}, None, True),
    ],
)
def test_what_is_in_it(words: dict[str, Any], value: Any, there: bool) -> None:
    assert made(**words).contains(value) is there


def test_canonical_tells_numbers_from_truth() -> None:
    assert canonical(1) == canonical(1.0) != canonical(True)
    assert canonical({"a": [1.0], "b": 2}) == canonical({"b": 2.0, "a": (1,)})


@pytest.mark.parametrize(
    "words",
    [{"int": [3, 9], "step": 2.0}, {"log": [1e-5, 1e-3]}, {"uniform": [0.0, 1.0], "when": {"a.b": [1, 2]}},
     {"choice": [1, "a", [2]]}],
)  # fmt: skip
def test_it_is_written_in_the_words_of_the_file(words: dict[str, Any]) -> None:
    document = made(**words).model_dump(mode="json")
    assert document == words
    assert made(**document) == made(**words)


def test_conditions_are_lists_of_values() -> None:
    found = made(int=[1, 2], when={"a": "x", "b": [1, 2], "c": [[8, 16]], "d": None}).conditions
    assert found == {"a": ("x",), "b": (1, 2), "c": ([8, 16],), "d": (None,)}

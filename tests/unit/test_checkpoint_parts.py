"""Arrays to bytes and back to the bit, and slots moved between workers."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from lehr.checkpoint.parts import Span, State, decode, encode, files, gaps, overlap, reshard
from ranks import same

TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]
anything = arrays_of.arrays(
    st.sampled_from([np.dtype(name) for name in TYPES]),
    arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
names = st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(names, anything, max_size=5))
def test_arrays_come_back_to_the_bit(arrays: dict[str, np.ndarray]) -> None:
    assert same(decode(encode(arrays)), arrays)


@given(arrays_of.arrays(np.uint16, st.integers(0, 50)))
def test_bfloat16_comes_back_with_every_nan(bits: np.ndarray) -> None:
    numbers = bits.view(ml_dtypes.bfloat16)
    back = decode(encode({"a/b": numbers}))["a/b"]
    assert back.dtype == ml_dtypes.bfloat16
    assert back.tobytes() == numbers.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.asarray(7, np.int64),
        np.zeros((0, 3), np.float32),
        np.zeros((3, 0, 2), bool),
        np.arange(12).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        np.broadcast_to(np.float32(1), (2, 3)),
        np.array([-0.0, np.nan, np.inf], np.float32),
    ],
    ids=["scalar", "no rows", "nothing", "transposed", "backwards", "fortran", "broadcast", "special"],
)
def test_layout_is_nothing_to_the_file(array: np.ndarray) -> None:
    assert same(decode(encode({"a": array})), {"a": array})


def test_big_endian_is_stored_as_all_others() -> None:
    back = decode(encode({"a": np.arange(3, dtype=">i4")}))["a"]
    assert back.dtype == np.int32
    assert back.tolist() == [0, 1, 2]


def test_the_same_arrays_give_the_same_bytes() -> None:
    one = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}
    assert encode(one) == encode(dict(reversed(one.items())))


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(["2026"], "M8[Y]")])
def test_what_cannot_be_stored_is_told(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"array 'x' is of .* which cannot be stored"):
        encode({"x": array})


def test_the_formats_own_name_is_refused() -> None:
    with pytest.raises(ValueError, match="__metadata__"):
        encode({"__metadata__": np.zeros(1)})


@pytest.mark.parametrize("data", [b"", b"1234567", b"\0" * 8, b"\xff" * 64, encode({"a": np.zeros(9)})[:-1]])
def test_what_is_no_file_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no safetensors file|cannot be read"):
        decode(data)


# --- slots ---------------------------------------------------------------------------------------------

cuts = st.lists(st.integers(0, 40), max_size=6).map(lambda inner: sorted({0, 40, *inner}))


def pieces(bounds: list[int]) -> list[Span]:
    return [Span(first, end - first) for first, end in itertools.pairwise(bounds)]


def chains(span: Span) -> dict[str, Any]:
    slots = np.arange(span.first, span.first + span.count)
    return {"slot": slots, "image": slots[:, None].astype(np.float32) * np.ones((1, 3), np.float32)}


@given(cuts, cuts, st.randoms())
def test_slots_move_between_any_numbers_of_workers(before: list[int], after: list[int], chance: Any) -> None:
    parts = [(span, chains(span)) for span in pieces(before)]
    chance.shuffle(parts)
    for wanted in pieces(after):
        assert same(reshard(parts, wanted), chains(wanted))


@given(cuts, cuts)
def test_there_and_back_is_nothing(before: list[int], after: list[int]) -> None:
    first = [(span, chains(span)) for span in pieces(before)]
    second = [(span, reshard(first, span)) for span in pieces(after)]
    for span, arrays in first:
        assert same(reshard(second, span), arrays)


spans = st.builds(Span, st.integers(0, 30), st.integers(0, 12))


def slots(span: Span) -> set[int]:
    return set(range(span.first, span.first + span.count))


@given(spans, spans)
def test_an_overlap_is_what_both_hold(one: Span, other: Span) -> None:
    assert slots(overlap(one, other)) == slots(one) & slots(other)


@given(st.lists(spans, max_size=6), spans)
def test_gaps_are_what_none_holds(held: list[Span], wanted: Span) -> None:
    found = gaps(held, wanted)
    missing = slots(wanted) - set().union(*map(slots, held))
    assert set().union(*map(slots, found)) == missing
    assert sum(span.count for span in found) == len(missing)
    assert [span.first for span in found] == sorted(span.first for span in found)


def test_who_writes_what() -> None:
    array = {"a": np.zeros((3, 1))}
    one = State({"w": np.zeros(1)}, {}, array, 0, 3)
    assert list(files(one, rank=0, workers=4)) == [
        "weights.safetensors",
        "optimizer.safetensors",
        "chains-0000-of-0004.safetensors",
    ]
    assert list(files(one, rank=3, workers=4)) == ["chains-0003-of-0004.safetensors"]
    assert files(State({}, {}, {}, 0, 0), rank=3, workers=4) == {}

"""Addresses of noise in compiled code: slices are rows of the whole, and no two addresses share numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.dynamics.noise import CHAIN_STEPS, TRAINING_STEPS, Noise
from lehr.seeds import Purpose

KINDS = ("normal", "uniform")


def draw(
    kind: str, shape: tuple[int, ...], *, seed: int = 3, step: int = 5, k: int = 7, first: int = 0
) -> Any:
    noise = Noise(seed, Purpose.CHAIN_NOISE)
    return getattr(noise, kind)(shape, step=step, k=k, first=first).numpy()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_slice_is_the_same_rows_of_the_whole(kind: str, data: st.DataObject) -> None:
    image = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    rows = data.draw(st.integers(1, 12))
    cut = data.draw(st.integers(0, rows - 1))
    step, k = data.draw(st.integers(0, TRAINING_STEPS - 1)), data.draw(st.integers(0, CHAIN_STEPS - 1))
    whole = draw(kind, (rows, *image), step=step, k=k)
    part = draw(kind, (rows - cut, *image), step=step, k=k, first=cut)
    assert np.array_equal(whole[cut:], part)


@pytest.mark.parametrize("kind", KINDS)
def test_large_slices_are_the_same_rows_of_the_whole(kind: str) -> None:
    """Large draws are made by several threads."""
    whole = draw(kind, (128, 32, 32, 1))
    assert np.array_equal(whole[64:], draw(kind, (64, 32, 32, 1), first=64))


def test_xla_cuts_its_numbers_in_the_same_way() -> None:
    noise = Noise(3, Purpose.CHAIN_NOISE)

    @tf.function(jit_compile=True)
    def both(step: Any) -> Any:
        return [noise.normal((rows, 3, 5), step=step, k=step, first=8 - rows) for rows in (8, 5)]

    whole, part = both(tf.constant(4, tf.int64))
    assert np.array_equal(whole[3:], part)
    assert np.unique(whole).size == whole.numpy().size


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)), min_size=2, unique=True))
def test_no_two_addresses_share_numbers(addresses: list[tuple[int, int, int]]) -> None:
    rows = [draw("normal", (1, 8), step=s, k=k, first=i)[0] for s, k, i in addresses]
    assert np.unique(np.stack(rows)).size == 8 * len(addresses)


def test_seeds_and_purposes_have_streams_of_their_own() -> None:
    streams = [Noise(seed, purpose) for seed in (0, 1, -1, 2**40) for purpose in Purpose]
    numbers = np.stack([s.normal((1, 8), step=0, k=0, first=0).numpy()[0] for s in streams])
    assert np.unique(numbers).size == numbers.size


def test_tensors_and_ints_are_the_same_address() -> None:
    noise = Noise(3, Purpose.DATA_NOISE)

    @tf.function
    def compiled(step: Any, k: Any, first: Any) -> Any:
        return noise.normal((4, 6), step=step, k=k, first=first)

    place = (2**40 + 1, 2**19 + 3, 2**30 + 5)
    step, k, first = place
    from_ints = noise.normal((4, 6), step=step, k=k, first=first)
    assert np.array_equal(compiled(*(tf.constant(n, tf.int64) for n in place)), from_ints)


def test_numbers_have_the_law_they_claim() -> None:
    normal, uniform = draw("normal", (400, 1000)), draw("uniform", (400, 1000))
    assert abs(normal.mean()) < 5 / np.sqrt(normal.size)
    assert abs(normal.std() - 1) < 5 / np.sqrt(2 * normal.size)
    assert abs((normal**4).mean() - 3) < 5 * np.sqrt(96 / normal.size)
    assert abs(uniform.mean()) < 5 * np.sqrt(1 / 3 / uniform.size)
    assert uniform.min() >= -1
    assert uniform.max() < 1
    assert abs(uniform.var() - 1 / 3) < 0.002


def test_the_numbers_at_an_address_are_part_of_the_format() -> None:
    """A run that resumes with another version must go on with the same noise."""
    expected = [-1.5573483, -1.0294104, 0.15278977, 0.02699017, -0.24889818]
    assert np.allclose(draw("normal", (8, 3, 5, 1))[0, 0, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"k": CHAIN_STEPS}, "k = 1048576"),
        ({"k": -1}, "k = -1"),
        ({"step": TRAINING_STEPS}, "step = 8796093022208"),
        ({"step": -1}, "step = -1"),
    ],
)
def test_places_out_of_bounds_have_no_address(place: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said} has no address"):
        draw("normal", (1, 4), **place)

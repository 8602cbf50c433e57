"""The replay buffer: what slots draw, what rings keep, and that sharding changes neither."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.dynamics.buffer import ReplayBuffer, Slots
from lehr.errors import UserError

IMAGE = (4, 3, 1)


def buffer(
    first: int = 0, count: int = 8, *, total: int = 8, size: int = 32, fresh: float = 0.3, seed: int = 1
) -> ReplayBuffer:
    return ReplayBuffer(IMAGE, Slots(first, count, total), size=size, fresh=fresh, seed=seed)


def becomes(start: np.ndarray, step: int) -> np.ndarray:
    """A stand-in for Langevin: what the chains of `step` become, different for each."""
    return np.tanh(start * 0.9 + 0.01 * step).astype(np.float32)


def play(buffers: list[ReplayBuffer], steps: range) -> list[np.ndarray]:
    """The global batches that the buffers draw, each keeping what its own chains become."""
    seen = []
    for step in steps:
        starts = [b.draw(step)["start"] for b in buffers]
        for b, start in zip(buffers, starts, strict=True):
            b.keep(step, {"chain": becomes(start, step)})
        seen.append(np.concatenate(starts))
    return seen


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_any_number_of_workers_draws_the_same_chains(workers: int) -> None:
    share = 8 // workers
    shards = [buffer(rank * share, share) for rank in range(workers)]
    assert same(play([buffer()], range(12)), play(shards, range(12)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_a_run_goes_on_from_its_state_with_another_number_of_workers(
    cut: int, before: int, after: int
) -> None:
    def shards(workers: int) -> list[ReplayBuffer]:
        return [buffer(rank * 8 // workers, 8 // workers) for rank in range(workers)]

    undisturbed = play([buffer()], range(12))
    old, new = shards(before), shards(after)
    head = play(old, range(cut))
    states = [b.state() for b in old]
    whole = {name: np.concatenate([state[name] for state in states]) for name in states[0]}
    for rank, b in enumerate(new):
        rows = slice(rank * 8 // after, (rank + 1) * 8 // after)
        b.restore({name: array[rows] for name, array in whole.items()})
    assert same(undisturbed, head + play(new, range(cut, 12)))


def test_slots_start_as_one_image_of_noise_each() -> None:
    b = buffer(fresh=0.0)
    start = b.draw(0)["start"]
    assert start.shape == (8, *IMAGE)
    assert start.dtype == np.float32
    assert np.unique(start).size == start.size
    assert start.min() >= -1
    assert start.max() < 1
    assert np.array_equal(start, b.draw(1)["start"]), "until something is kept there is one image to draw"
    assert b.ages().tolist() == [0] * 8


def test_fresh_slots_start_from_new_noise_each_step() -> None:
    b = buffer(fresh=1.0)
    drawn = np.stack(play([b], range(6)))
    assert np.unique(drawn).size == drawn.size


def test_fresh_is_the_chance_of_new_noise() -> None:
    b = ReplayBuffer((1,), Slots(0, 2000, 2000), size=2000, fresh=0.05, seed=0)
    before = b.state()["chains"][:, 0]
    share = np.mean([np.mean(b.draw(step)["start"] != before) for step in range(10)])
    assert abs(share - 0.05) < 5 * np.sqrt(0.05 * 0.95 / 20000)


def test_a_slot_draws_evenly_from_the_filled_part_of_its_own_ring() -> None:
    slots, filled = 1000, 5
    b = ReplayBuffer((1,), Slots(0, slots, slots), size=8 * slots, fresh=0.0, seed=0)
    mark = np.arange(slots, dtype=np.float32)[:, None]
    for step in range(1, filled):
        b.draw(step)
        b.keep(step, {"chain": mark + step / 10})
    counts = np.zeros(filled)
    for step in range(20):
        start = b.draw(step)["start"]
        age = np.round((start - mark) * 10)
        own = np.abs(start - mark) < 0.9
        first = np.abs(start) < 1  # the image of noise that a slot started with
        counts[0] += np.sum(~(own & (age >= 1)) & first)
        for k in range(1, filled):
            counts[k] += np.sum(own & (age == k))
        assert np.all(own | first)
    expected = 20 * slots / filled
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected)), counts


def test_rings_keep_the_newest_and_lose_the_oldest() -> None:
    b = buffer(size=24, fresh=0.0)
    for step in range(7):
        b.draw(step)
        b.keep(step, {"chain": np.full((8, *IMAGE), step, np.float32)})
    assert {float(b.draw(step)["start"][slot, 0, 0, 0]) for step in range(40) for slot in range(8)} == {
        4,
        5,
        6,
    }


def test_ages_count_the_training_steps_behind_a_chain() -> None:
    b = buffer(size=8, fresh=0.0)
    play([b], range(5))
    assert b.ages().tolist() == [5] * 8
    b = buffer(size=8, fresh=1.0)
    play([b], range(5))
    assert b.ages().tolist() == [1] * 8


def test_a_draw_tells_the_ages_of_each_ring() -> None:
    """As a number a slot: shares of a mean over all slots, whoever holds them."""
    b, shards = buffer(size=24, fresh=0.4), [buffer(first, 4, size=24, fresh=0.4) for first in (0, 4)]
    for step in range(9):
        drawn = b.draw(step)
        ages = [ring.tolist() for ring in np.split(b.ages(), np.cumsum(b.state()["filled"])[:-1])]
        assert drawn["age"].tolist() == pytest.approx([np.mean(ring) for ring in ages])
        assert drawn["oldest"].tolist() == [max(ring) for ring in ages]
        parts = [shard.draw(step) for shard in shards]
        for name in ("age", "oldest"):
            assert drawn[name].dtype == np.float32
            assert np.array_equal(drawn[name], np.concatenate([part[name] for part in parts]))
        for one in (b, *shards):
            one.keep(step, {"chain": np.zeros((len(one.state()["filled"]), *IMAGE), np.float32)})
    assert drawn["oldest"].max() > 1


def test_a_state_is_a_copy() -> None:
    b = buffer()
    play([b], range(3))
    state = b.state()
    kept = {name: array.copy() for name, array in state.items()}
    play([b], range(3, 9))
    assert all(np.array_equal(state[name], kept[name]) for name in state)
    assert all(len(array) == 8 for array in state.values())


def test_seeds_and_steps_change_what_is_drawn() -> None:
    drawn = [
        buffer(seed=seed, fresh=1.0).draw(step)["start"] for seed, step in itertools.product((0, 1), (0, 1))
    ]
    assert np.unique(np.stack(drawn)).size == np.stack(drawn).size


@pytest.mark.parametrize(("size", "hint"), [(4, "size: 8"), (33, "size: 32"), (0, "size: 8")])
def test_a_size_that_slots_cannot_share_is_refused(size: int, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        buffer(size=size)
    letter = str(caught.value)
    assert letter.startswith(f"sampler.buffer.size: {size} chains cannot be shared by 8 slots")
    assert f"do: set sampler.buffer.{hint}" in letter


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"chains: \(8, 8, 4, 3, 1\) where \(8, 4, 4, 3, 1\) is wanted"):
        buffer(size=32).restore(buffer(size=64).state())
    with pytest.raises(UserError, match="ages: nothing where"):
        buffer().restore({"chains": buffer().state()["chains"]})

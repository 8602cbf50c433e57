"""What a worker suffers, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.chaos.board import Board
from lehr.chaos.faults import Fault, Kill, Outage, Slow, TrackerDown
from lehr.chaos.worker import Fate


class Life:
    """Attempts of one rank, with a clock of their own; `steps` are told as (step, seconds)."""

    def __init__(self, folder: Path, *faults: Fault, rank: int = 0) -> None:
        self.board = Board.make(folder / "board", faults)
        self.rank, self.now, self.slept, self.deaths = rank, 0.0, [0.0], 0
        self.fate = self.attempt(1)

    def attempt(self, number: int) -> Fate:
        self.fate = Fate(
            self.board, rank=self.rank, attempt=number, now=lambda: self.now, sleep=self.sleep, die=self.die
        )
        return self.fate

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept[-1] += seconds

    def die(self) -> None:
        self.deaths += 1

    def step(self, step: int, took_s: float = 1.0) -> None:
        self.slept.append(0.0)
        self.fate.before_step(step)
        self.now += took_s


def test_a_rank_is_killed_at_its_step_and_only_once(tmp_path: Path) -> None:
    life = Life(tmp_path, Kill(0, 3), Kill(1, 2))
    for step in range(3):
        life.step(step)
    assert life.deaths == 0, "not before, and not for another"
    life.step(3)
    assert life.deaths == 1
    life.attempt(2)
    for step in range(2, 6):
        life.step(step)
    assert life.deaths == 1, "an attempt that comes there again lives on"
    struck = life.board.struck(0)
    assert struck is not None
    assert (struck.step, struck.rank, struck.attempt) == (3, 0, 1)
    assert life.board.struck(1) is None


def test_two_kills_are_two(tmp_path: Path) -> None:
    life = Life(tmp_path, Kill(0, 3), Kill(0, 5))
    for step in range(8):
        life.step(step)
    assert life.deaths == 2


def test_faults_of_the_store_begin_at_their_step(tmp_path: Path) -> None:
    life = Life(tmp_path, Outage("503", 1.0, 2), Outage("500", 1.0, None), TrackerDown(3.0, 2))
    life.fate.begin()
    assert [life.board.struck(index) is not None for index in range(3)] == [False, True, False]
    life.step(0)
    life.step(1)
    assert life.board.struck(0) is None
    life.step(2)
    first = life.board.struck(0)
    assert first is not None
    assert first.step == 2
    assert life.board.struck(2) is not None
    life.step(3)
    assert life.board.struck(0) == first


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_slow_rank_is_slow(rank: int, tmp_path: Path) -> None:
    life = Life(tmp_path, Slow(1, 3.0), rank=rank)
    for step, took_s in enumerate([60.0, 1.0, 1.0, 1.0]):  # the first compiles
        life.step(step, took_s)
    assert life.slept[1:] == ([0.0, 0.0, 2.0, 2.0] if rank == 1 else [0.0] * 4)


def test_waiting_for_others_is_not_made_longer(tmp_path: Path) -> None:
    """Steps in which this rank waits take longer; what it adds does not grow with them."""
    life = Life(tmp_path, Slow(0, 2.0))
    for step, took_s in enumerate([60.0, 1.0, 4.0, 4.0]):
        life.step(step, took_s)
    assert life.slept[1:] == [0.0, 0.0, 1.0, 1.0]
    assert [note["slept_s"] for note in life.board.notes(0)] == [1.0, 1.0]

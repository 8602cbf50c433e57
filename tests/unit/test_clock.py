"""What is due when, and that ranks learn it from the exchange."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fakes import MemoryStore
from lehr import leaving
from lehr.cadence import NEVER, Cadence
from lehr.errors import StorageError
from lehr.loop.step import SIGNALS
from lehr.worker.clock import Clock, Ear, StopRequest

NONE = np.zeros(SIGNALS, np.float32)


def plan(**changes: Any) -> Any:
    cadences = {
        "checkpoint_every": Cadence(4),
        "samples_every": Cadence(6),
        "validate_every": Cadence(3),
        "track_every": Cadence(2),
    }
    return SimpleNamespace(steps=10, **(cadences | changes))


def due_steps(clock: Clock, name: str) -> list[int]:
    return [step for step in range(1, 11) if getattr(clock.due(step, NONE), name)]


def test_cadences_in_steps_and_the_last_step() -> None:
    for name, expected in {
        "checkpoint": [4, 8, 10],
        "samples": [6, 10],
        "validation": [3, 6, 9, 10],
        "entry": [2, 4, 6, 8, 10],
        "stop": [],
    }.items():
        assert due_steps(Clock(plan(), rank=0, stop=lambda: False, start=0), name) == expected, name


def test_what_has_no_cadence_is_never_due() -> None:
    clock = Clock(plan(samples_every=NEVER, validate_every=NEVER), rank=0, stop=lambda: False, start=0)
    assert due_steps(clock, "samples") == []
    assert due_steps(clock, "validation") == []


def test_minutes_are_seen_by_rank_0_alone_and_acted_on_by_all() -> None:
    time = [0.0]
    timed = plan(checkpoint_every=Cadence(None, 1.0))
    ranks = [Clock(timed, rank=rank, stop=lambda: False, start=0, now=lambda: time[0]) for rank in (0, 1)]
    time[0] = 59.0
    assert sum(clock.signals() for clock in ranks).sum() == 0
    time[0] = 61.0
    wishes = [clock.signals() for clock in ranks]
    assert wishes[1].sum() == 0
    summed = sum(wishes)
    assert [clock.due(1, summed).checkpoint for clock in ranks] == [True, True]
    time[0] = 100.0  # 39 seconds after the checkpoint at 61
    assert sum(clock.signals() for clock in ranks).sum() == 0


def test_any_rank_may_ask_to_stop_and_all_save_first() -> None:
    request = StopRequest(None)
    ranks = [Clock(plan(), rank=0, stop=lambda: False, start=0), Clock(plan(), rank=1, stop=request, start=0)]
    request.set()
    summed = sum(clock.signals() for clock in ranks)
    for clock in ranks:
        verdict = clock.due(1, summed)
        assert (verdict.stop, verdict.checkpoint, verdict.entry, verdict.samples) == (True, True, True, False)


def test_who_waits_looks_for_a_wish_to_stop_itself() -> None:
    time, run, request = [0.0], MemoryStore(), StopRequest(None)
    ear = Ear(request, run, now=lambda: time[0])
    assert not ear()
    run.write(StopRequest.KEY, b"asked")
    time[0] = 1.9
    assert not ear()  # asked a moment ago
    time[0] = 2.1
    assert ear()
    assert request()  # the next exchange tells the others


def test_who_waits_hears_that_it_is_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    request = StopRequest(None)
    ear = Ear(request, MemoryStore())
    assert not ear()
    monkeypatch.setattr(leaving, "_reason", leaving.RESIZED)
    assert ear()
    assert not request()  # to leave is not to stop


def test_a_store_that_fails_says_nothing_of_a_wish() -> None:
    class Gone(MemoryStore):
        def size(self, key: str) -> int | None:
            raise StorageError("gone")

    assert not Ear(StopRequest(None), Gone())()

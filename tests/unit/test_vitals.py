"""Signs of life: what the loop and the worker write, and others read."""

from __future__ import annotations

from lehr.loop.meter import Stopwatch
from lehr.vitals import OURS, PHASES, Vitals


def test_stopwatch_tells_the_phase() -> None:
    watch = Stopwatch()
    for phase in ("data", "compute", "checkpoint"):
        with watch.phase(phase):
            assert OURS.phase == phase
        assert phase in PHASES


def test_each_entry_into_a_phase_changes_what_others_see() -> None:
    vitals = Vitals()
    seen = []
    for _ in range(3):
        vitals.enter("data")
        seen.append(vitals.document()["since"])
    assert len(set(seen)) == 3


def test_step_counts_and_warms() -> None:
    vitals = Vitals()
    assert not vitals.document()["warm"]
    vitals.arrive(7)
    told = vitals.document()
    assert (told["step"], told["warm"], told["phase"]) == (7, True, "between")


def test_rates_are_the_journals_own() -> None:
    vitals = Vitals()
    watch = Stopwatch()
    with watch.phase("data"):
        pass
    vitals.rates(watch.lap(steps=2, examples=10.0))
    assert set(vitals.times) == {"step", "data", "compute", "exchange", "checkpoint"}
    assert vitals.examples_per_s > 0.0


def test_new_attempt_in_the_same_process_begins_anew() -> None:
    vitals = Vitals()
    vitals.arrive(7)
    vitals.uploaded_bytes, vitals.checkpoint_at = 5, 1.0
    heard = []
    vitals.begin(3, lambda event, **fields: heard.append((event, fields)))
    assert (vitals.rank, vitals.step, vitals.phase, vitals.warm) == (3, 0, "start", False)
    assert (vitals.uploaded_bytes, vitals.checkpoint_at) == (0, 0.0)
    assert vitals.tell is not None
    vitals.tell("hung", step=1)
    assert heard == [("hung", {"step": 1})]


def test_what_travels_is_small_and_plain() -> None:
    told = Vitals(rank=1).document()
    assert all(isinstance(value, str | int | float | bool) for value in told.values())

"""What a sweep's journal holds, and the history that it folds to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lehr import journal
from lehr.sweep import records, results
from lehr.sweep.records import History, Outcome, Report, Source, Start, begun, over, reported

FIRST = Start(1, 1, "hunt-0001", {"rate": 1e-3, "filters": [16, 32]})
SECOND = Start(2, 1, "hunt-0002", {"rate": 1e-2, "filters": [16]})
COPY = Start(2, 2, "hunt-0002-2", {"rate": 8e-4, "filters": [16, 32]}, Source(1, "hunt-0001", 40))


def folded(*entries: journal.Entry) -> History:
    """As it is read back from a journal: JSON lines among others."""
    lines = [
        json.dumps(journal.encode({"type": "event", "time": 1.0, "attempt": 1, "step": None} | one))
        for one in entries
    ]
    between: list[dict[str, Any]] = [
        {"type": "start", "step": 0, "from_step": 0},
        {"type": "metrics", "step": 3, "values": {"report": 1.0}},
        {"type": "event", "event": "stored"},
        {"type": "end", "step": 9, "outcome": "completed"},
    ]
    return History.read([*between, *map(json.loads, lines), *between])


def said(start: Start, at: int, value: float, verdict: records.Verdict = "continue") -> journal.Entry:
    return reported(start, Report(at, 100, value, verdict, "why" if verdict != "continue" else ""))


def test_a_history_is_the_fold_of_its_events() -> None:
    history = folded(
        begun(FIRST, 100, proposed="random"),
        said(FIRST, 20, 0.5),
        begun(SECOND, 100, proposed="random"),
        said(SECOND, 20, 0.9, "copy"),
        over(SECOND, "copied", at=21, train_s=1.5, wall_s=2.0),
        begun(COPY, 100, proposed="a copy"),
        said(FIRST, 40, 0.25),
        over(FIRST, "completed", at=100, value=0.25, train_s=4.0, wall_s=5.0),
    )
    first, second = history.trials[1], history.trials[2]
    assert (first.last.start, first.last.steps, first.last.outcome, first.last.at) == (
        FIRST,
        100,
        "completed",
        100,
    )
    assert [report.value for report in first.reports()] == [0.5, 0.25]
    assert (first.last.value, first.last.train_s, first.last.wall_s) == (0.25, 4.0, 5.0)
    assert [segment.start for segment in second.segments] == [SECOND, COPY]
    assert second.parameters == COPY.parameters
    assert (second.segments[0].outcome, second.segments[0].message) == ("copied", "why")
    assert (first.over, second.over, second.last.outcome) == (True, False, None)


@pytest.mark.parametrize(
    ("outcome", "ends"),
    [
        ("completed", True),
        ("stopped", True),
        ("diverged", True),
        ("copied", False),
        ("failed", False),
        ("interrupted", False),
    ],
)
def test_which_outcomes_are_the_end_of_a_trial(outcome: Outcome, ends: bool) -> None:
    history = folded(begun(FIRST, 100, proposed="grid"), over(FIRST, outcome, at=7))
    assert history.trials[1].over is ends
    assert history.trials[1].copies is (outcome == "copied")


def test_a_diverged_one_that_goes_on_as_a_copy_is_not_over() -> None:
    history = folded(begun(SECOND, 100, proposed="grid"), over(SECOND, "diverged", at=7, again=True))
    trial = history.trials[2]
    assert (trial.over, trial.copies, trial.diverged) == (False, True, True)
    history.apply(begun(COPY, 100, proposed="a copy"))
    assert (trial.over, trial.copies, trial.diverged) == (False, False, False)
    history.apply(over(COPY, "completed", at=100))
    assert (trial.over, trial.copies) == (True, False)


@pytest.mark.parametrize(
    ("verdict", "outcome"), [("stop", "stopped"), ("copy", "copied"), ("continue", None)]
)
def test_a_verdict_is_the_end_even_if_the_driver_dies_before_it_says_so(
    verdict: records.Verdict, outcome: Outcome | None
) -> None:
    history = folded(begun(FIRST, 100, proposed="grid"), said(FIRST, 20, 0.5, verdict))
    assert history.trials[1].last.outcome == outcome


def test_a_segment_that_is_taken_up_again_keeps_what_is_known_and_adds_its_times() -> None:
    history = folded(
        begun(FIRST, 100, proposed="random"),
        said(FIRST, 20, 0.5),
        over(FIRST, "failed", at=30, message="lost its host", train_s=1.0, wall_s=2.0),
        begun(FIRST, 100, proposed="taken up again"),
    )
    segment = history.trials[1].last
    assert (segment.outcome, segment.at, len(history.trials[1].segments)) == (None, 30, 1)
    assert [report.at for report in segment.reports] == [20]
    history.apply(over(FIRST, "completed", at=100, train_s=3.0, wall_s=4.0))
    assert (segment.train_s, segment.wall_s) == (4.0, 6.0)


def test_more_trials_are_never_fewer_and_the_last_space_holds() -> None:
    history = folded(
        {"event": "extended", "trials": 48},
        {"event": "extended", "trials": 12},
        {"event": "space", "space": {"rate": {"log": [1e-4, 1]}}},
        {"event": "space", "space": {"rate": {"log": [1e-5, 1]}}},
    )
    assert history.wanted == 48
    assert history.space == {"rate": {"log": [1e-5, 1]}}
    assert History().wanted == 0


@pytest.mark.parametrize(("mode", "best"), [("min", 0.2), ("max", 0.9)])
def test_the_best_value_of_a_trial_is_over_all_its_segments(mode: str, best: float) -> None:
    history = folded(
        begun(SECOND, 100, proposed="random"), said(SECOND, 20, 0.9), said(SECOND, 40, 0.7, "copy"),
        begun(COPY, 100, proposed="a copy"), said(COPY, 60, 0.2), said(COPY, 80, 0.4),
    )  # fmt: skip
    assert history.trials[2].best(mode) == best


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_diverged_trial_is_the_worst_and_one_that_said_nothing_has_no_value(mode: str) -> None:
    history = folded(
        begun(FIRST, 100, proposed="random"),
        begun(SECOND, 100, proposed="random"),
        said(FIRST, 20, 0.5),
        over(FIRST, "diverged", at=25),
    )
    assert (
        history.trials[1].best(mode)
        == records.worst(mode)
        == (float("inf") if mode == "min" else -float("inf"))
    )
    assert history.trials[2].best(mode) is None


def test_names() -> None:
    assert records.run_id("hunt", 7) == "hunt-0007"
    assert records.run_id("hunt", 7, 2) == "hunt-0007-2"
    assert records.run_id("hunt", 12345) == "hunt-12345"
    assert records.folder("hunt") == "hunt/trials"


def test_an_event_of_an_unknown_run_is_no_silence() -> None:
    with pytest.raises(KeyError):
        folded(said(FIRST, 20, 0.5))


def test_what_was_said_before_a_divergence_is_no_best() -> None:
    """A setting that blows up is none that one would train fully, however low it came just before."""
    first, second = Start(1, 1, "s-0001", {"a": 1}), Start(1, 2, "s-0001-2", {"a": 2}, Source(2, "s-0002", 5))
    history = History.read([
        records.begun(first, 20, proposed="random"),
        records.reported(first, Report(5, 20, 0.001)),
        records.over(first, "diverged", at=7, message="blew up") | {"again": True},
        records.begun(second, 20, proposed="a copy"),
        records.reported(second, Report(10, 20, 0.5)),
        records.over(second, "completed", at=20),
    ])  # fmt: skip
    trial = history.trials[1]
    assert trial.best("min") == 0.5
    assert results.best_segment(trial, "min").start.parameters == {"a": 2}


def test_a_segment_that_is_taken_up_again_has_no_old_message() -> None:
    start = Start(1, 1, "s-0001", {"a": 1})
    history = History.read([
        records.begun(start, 20, proposed="random"),
        records.over(start, "failed", at=7, message="out of disk"),
        records.begun(start, 20, proposed="random"),
        records.over(start, "completed", at=20),
    ])  # fmt: skip
    assert (history.trials[1].last.outcome, history.trials[1].last.message) == ("completed", "")

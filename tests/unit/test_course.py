"""The course of a sweep: its contract, one decision at a time, and whole sweeps under hundreds of deaths."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from typing import Any, cast

import pytest

import sweeping
from lehr import journal
from lehr.sweep.course import Course
from lehr.sweep.records import FINAL, History, Outcome, Parameters, Start
from sweeping import World, program

SCHEDULERS = ("none", "asha", "hyperband", "pbt")
ALGORITHMS = ("random", "grid", "tpe")


def course(given: sweeping.Program | None = None, history: History | None = None) -> Course:
    asked = given or program()
    return Course(
        cast(Any, asked), sweeping.PROPOSERS[asked.search.algorithm](asked.search), history or History()
    )


def begun(one: Course, running: list[str] | None = None) -> Start:
    start = one.next(running or [])
    assert start is not None
    one.begin(start, 27)
    return start


def names(one: Course, count: int) -> list[str]:
    """The runs of the next segments, as they begin one after another and run on."""
    running: list[str] = []
    for _ in range(count):
        running.append(begun(one, running).run)
    return running


# --- what begins ------------------------------------------------------------------------------------


def test_new_trials_are_numbered_from_one_until_there_are_enough() -> None:
    one = course(program(trials=3))
    assert names(one, 3) == ["hunt-0001", "hunt-0002", "hunt-0003"]
    assert one.next(["hunt-0001", "hunt-0002", "hunt-0003"]) is None


def test_asking_changes_nothing() -> None:
    one = course()
    assert one.next([]) == one.next([]) == one.next(["hunt-0009"])
    assert not one.history.trials


def test_a_beginning_is_an_event_and_then_a_state() -> None:
    one = course()
    start = one.next([])
    assert start is not None
    entry = one.begin(start, 27)
    assert (entry["event"], entry["run"], entry["steps"], entry["proposed"]) == (
        "trial",
        "hunt-0001",
        27,
        "random",
    )
    assert entry["parameters"] == start.parameters
    assert one.history.trials[1].last.start == start


def test_a_grid_ends_when_it_has_no_more() -> None:
    one = course(program(algorithm="grid", trials=99))
    found = [begun(one, [f"hunt-{number:04d}" for number in range(1, 99)]) for _ in range(8)]
    assert len({json.dumps(start.parameters) for start in found}) == 8
    assert one.next([start.run for start in found]) is None
    assert not one.finished
    for start in found:
        one.end(start, "completed", at=27)
    assert one.finished


@pytest.mark.parametrize("outcome", ["interrupted", "failed", None])
def test_what_was_left_comes_first_and_by_number(outcome: Outcome | None) -> None:
    one = course()
    starts = [begun(one, ["hunt-0001", "hunt-0002"][:count]) for count in range(3)]
    for start in reversed(starts) if outcome else ():
        one.end(start, outcome or "failed", at=5)
    again = course(history=one.history)
    assert names(again, 4) == ["hunt-0001", "hunt-0002", "hunt-0003", "hunt-0004"]
    assert len(again.history.trials) == 4


def test_one_that_is_taken_up_again_keeps_its_parameters() -> None:
    one = course(program(algorithm="tpe"))
    start = begun(one)
    one.report(start, 3, 27, 0.5)
    again = course(program(algorithm="tpe"), one.history)
    assert again.next([]) == start
    assert again.begin(start, 27)["proposed"] == "taken up again"


def test_one_that_failed_is_not_given_again_in_the_same_launch() -> None:
    one = course(program(trials=2))
    start = begun(one)
    one.end(start, "failed", at=5, message="no room")
    assert begun(one).run == "hunt-0002"
    assert one.next(["hunt-0002"]) is None
    one.end(Start(2, 1, "hunt-0002", {}), "completed", at=27)
    assert one.next([]) is None
    assert not one.finished
    again = course(program(trials=2), one.history)
    assert again.next([]) == start


def test_one_that_was_interrupted_in_this_launch_is_given_again() -> None:
    one = course()
    start = begun(one)
    one.end(start, "interrupted", at=5)
    assert one.next([]) == start


def test_who_runs_is_not_given() -> None:
    one = course(program(trials=1))
    start = begun(one)
    assert one.next([start.run]) is None
    assert one.next([]) == start


# --- reports ----------------------------------------------------------------------------------------


def test_a_report_is_an_event_with_its_verdict() -> None:
    one = course()
    start = begun(one)
    entry = one.report(start, 3, 27, 0.5)
    assert entry is not None
    assert (entry["at"], entry["steps"], entry["value"], entry["verdict"]) == (3, 27, 0.5, "continue")
    assert one.history.trials[1].last.value == 0.5


def test_what_is_known_is_no_report() -> None:
    one = course()
    start = begun(one)
    one.report(start, 6, 27, 0.5)
    assert [one.report(start, at, 27, 0.4) for at in (3, 6)] == [None, None]
    again = course(history=one.history)
    again.begin(start, 27)
    assert [again.report(start, at, 27, 0.4) for at in (3, 6)] == [None, None]
    assert again.report(start, 7, 27, 0.4) is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e6, -2e6])
def test_a_divergence_is_no_report(value: float) -> None:
    one = course()
    start = begun(one)
    with pytest.raises(ValueError, match="hunt-0001 diverged"):
        one.report(start, 3, 27, value)
    assert not list(one.history.trials[1].reports())


def stopped() -> tuple[Course, Start]:
    """A course whose second trial has just been told to stop."""
    one = course(program("asha"))
    first, second = begun(one), begun(one, ["hunt-0001"])
    one.report(first, 3, 27, 0.1)
    entry = one.report(second, 3, 27, 0.9)
    assert entry is not None
    assert entry["verdict"] == "stop"
    assert entry["reason"]
    return one, second


def test_after_a_verdict_nothing_is_heard() -> None:
    one, second = stopped()
    assert one.report(second, 6, 27, 0.01) is None


@pytest.mark.parametrize("outcome", ["completed", "interrupted", "failed", "diverged", "stopped"])
def test_a_verdict_holds_whatever_the_run_did_before_it_heard(outcome: Outcome) -> None:
    one, second = stopped()
    assert one.end(second, outcome, at=5)["outcome"] == "stopped"
    assert one.history.trials[2].over


def test_one_that_was_told_to_stop_is_not_given_to_the_next_driver() -> None:
    one, _ = stopped()
    again = course(program("asha"), one.history)
    assert names(again, 3) == ["hunt-0001", "hunt-0003", "hunt-0004"]


def test_a_sweep_is_not_finished_while_one_that_was_told_to_stop_has_not_ended() -> None:
    one = course(program("asha", trials=2))
    first, second = begun(one), begun(one, ["hunt-0001"])
    one.report(first, 3, 27, 0.1)
    one.end(first, "completed", at=27)
    one.report(second, 3, 27, 0.9)
    assert not one.finished
    one.end(second, "stopped", at=4)
    assert one.finished


# --- populations ------------------------------------------------------------------------------------


def copied() -> tuple[Course, Start]:
    """A population of four, all of which run, whose fourth has just been told to copy."""
    one = course(program("pbt", trials=4))
    starts = [begun(one, [f"hunt-{number:04d}" for number in range(1, 5)]) for _ in range(4)]
    for start, value in zip(starts, [0.3, 0.2, 0.1, 0.9], strict=True):
        entry = one.report(start, 3, 27, value)
    assert entry is not None
    assert entry["verdict"] == "copy"
    return one, starts[3]


def test_a_copied_trial_goes_on_in_a_further_segment() -> None:
    one, fourth = copied()
    others = [f"hunt-{number:04d}" for number in (1, 2, 3)]
    assert one.next([*others, fourth.run]) is None  # it has not ended
    one.end(fourth, "copied", at=4)
    start = one.next(others)
    assert start is not None
    assert start.source is not None
    assert (start.trial, start.segment, start.run) == (4, 2, "hunt-0004-2")
    assert (start.source.trial, start.source.run, start.source.step) == (3, "hunt-0003", 3)
    assert start.parameters != one.history.trials[3].parameters
    assert not one.history.trials[4].over
    assert not one.finished
    entry = one.begin(start, 27)
    assert entry["source"] == {"trial": 3, "run": "hunt-0003", "step": 3}
    assert "trial 3 at step 3" in entry["proposed"]


def test_a_driver_that_dies_after_the_verdict_leaves_the_copy_to_the_next() -> None:
    one, fourth = copied()
    again = course(program("pbt", trials=4), one.history)
    assert names(again, 4) == ["hunt-0001", "hunt-0002", "hunt-0003", "hunt-0004-2"]
    one.end(fourth, "copied", at=4)
    assert again.history.trials[4].last.start == one.next(["hunt-0001", "hunt-0002", "hunt-0003"])


def test_a_diverged_trial_becomes_a_copy_and_its_outcome_stays() -> None:
    one = course(program("pbt", trials=4))
    starts = [begun(one, [f"hunt-{number:04d}" for number in range(1, 5)]) for _ in range(4)]
    others = [start.run for start in starts[1:]]
    entry = one.end(starts[0], "diverged", at=1, message="train/loss is nan at step 1")
    assert entry["again"] is True
    assert one.next(others) is None  # nobody was at a look
    one.report(starts[2], 3, 27, 0.5)
    again = course(program("pbt", trials=4), one.history)
    start = one.next(others)
    assert start == again.next(others)
    assert start is not None
    assert start.source is not None
    assert start.source.trial == 3
    one.begin(start, 27)
    assert [segment.outcome for segment in one.history.trials[1].segments] == ["diverged", None]


def test_a_trial_that_diverges_again_and_again_is_left() -> None:
    one = course(program("pbt", trials=2))
    bad, good = begun(one), begun(one, ["hunt-0001"])
    one.report(good, 3, 27, 0.5)
    outcomes = []
    for _ in range(3):
        outcomes.append(one.end(bad, "diverged", at=4).get("again", False))
        bad = one.next([good.run]) or bad
        if bad.run not in {segment.start.run for segment in one.history.trials[1].segments}:
            one.begin(bad, 27)
    assert outcomes == [True, True, False]
    assert one.history.trials[1].over
    one.end(good, "completed", at=27)
    assert one.finished
    assert one.over == 2


def test_a_population_that_diverged_as_a_whole_is_finished() -> None:
    one = course(program("pbt", trials=2))
    starts = [begun(one), begun(one, ["hunt-0001"])]
    for start in starts:
        assert not one.finished
        one.end(start, "diverged", at=1)
    assert one.next([]) is None
    assert one.finished
    assert one.over == 2
    assert one.best() is None


# --- how it stands ----------------------------------------------------------------------------------


def test_a_divergence_can_end_the_sweep() -> None:
    given = program(on_divergence="stop", trials=3)
    one = course(given)
    first, second = begun(one), begun(one, ["hunt-0001"])
    assert one.reason == ""
    one.end(first, "diverged", at=2)
    assert "trial 1 diverged" in one.reason
    assert one.finished
    assert one.next([second.run]) is None
    assert course(given, one.history).finished
    assert not course(program(trials=3), one.history).finished  # the job was changed to go on: it does


@pytest.mark.parametrize(("mode", "number"), [("min", 2), ("max", 3)])
def test_the_best_is_the_first_of_equals_and_never_one_that_diverged(mode: str, number: int) -> None:
    one = course(program(mode=mode))
    starts = [begun(one, [f"hunt-{number:04d}" for number in range(1, 9)]) for _ in range(6)]
    assert one.best() is None
    for start, value in zip(starts, [0.5, 0.1, 0.9, 0.1, 0.9, 0.5], strict=True):
        one.report(start, 3, 27, value)
    diverged = begun(one, [start.run for start in starts])
    one.report(diverged, 3, 27, -5.0 if mode == "min" else 5.0)
    one.end(diverged, "diverged", at=4)
    best = one.best()
    assert best is not None
    assert best.number == number


def test_an_extension_is_heard_from_the_program_and_from_the_journal() -> None:
    one = course(program(trials=1))
    one.end(begun(one), "completed", at=27)
    assert one.finished
    assert one.wanted == 1
    one.history.apply({"event": "extended", "trials": 3})
    assert course(program(trials=1), one.history).wanted == 3
    more = course(program(trials=2), History(trials=one.history.trials))
    assert not more.finished
    assert more.wanted == 2
    assert begun(more).run == "hunt-0002"


def test_fewer_trials_than_there_are_end_what_began() -> None:
    one = course(program(trials=3))
    started = [begun(one, ["hunt-0001", "hunt-0002"][:count]) for count in range(3)]
    fewer = course(program(trials=1), one.history)
    assert names(fewer, 3) == [start.run for start in started]
    assert not fewer.finished


# --- whole sweeps -----------------------------------------------------------------------------------


def events(world: World) -> list[journal.Entry]:
    return [json.loads(line) for line in world.entries]


def diverges(parameters: Parameters) -> int | None:
    """About one in five, some of them at once."""
    return int(parameters["steps"]) if parameters["steps"] % 5 == 0 else None


def storm(scheduler: str, algorithm: str, seed: int, **told: Any) -> World:
    world = World(
        program(scheduler, algorithm, trials=8, seed=seed), seed=seed, kills=6, failures=3, stops=2,
        diverges=diverges if seed % 2 else lambda parameters: None, **told,
    )  # fmt: skip
    world.run()
    return world


def check_whole(world: World) -> None:
    """Every wanted trial ended exactly once, and no run did anything after its end."""
    history = world.history
    assert sorted(history.trials) == list(range(1, 9))
    for trial in history.trials.values():
        assert trial.over or trial.copies  # a diverged one whom nobody was left to be copied from
        assert [segment.start.segment for segment in trial.segments] == list(
            range(1, len(trial.segments) + 1)
        )
    over: dict[str, str] = {}
    for entry in events(world):
        if entry["event"] == "ended" and over.get(entry["run"]) in ("stop", "copy"):
            assert entry["outcome"] == {"stop": "stopped", "copy": "copied"}[over[entry["run"]]]
        else:
            assert entry["run"] not in over, entry
        if entry["event"] == "ended" and entry["outcome"] in FINAL:
            over[entry["run"]] = "ended"
        if entry["event"] == "report" and entry["verdict"] != "continue":
            over[entry["run"]] = entry["verdict"]
    assert over == dict.fromkeys(world.runs, "ended")
    assert Counter(segment.outcome for trial in history.trials.values() for segment in trial.segments)[
        "completed"
    ]


def check_reports(world: World) -> None:
    """No value is there twice, and every one is what the run says of that step."""
    for trial in world.history.trials.values():
        for segment in trial.segments:
            steps = [report.at for report in segment.reports]
            assert steps == sorted(set(steps))
            said = dict(world.runs[segment.start.run].said)
            assert all(said[report.at] == report.value for report in segment.reports)
            if segment.outcome == "completed":
                assert steps[-1] == segment.steps == world.runs[segment.start.run].at


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_trial_ends_once_however_often_the_driver_dies(scheduler: str, algorithm: str) -> None:
    deaths = lost = 0
    for seed in range(20):
        world = storm(scheduler, algorithm, seed)
        check_whole(world)
        check_reports(world)
        deaths += world.launches - 1
        lost += world.vanished
    assert deaths > 60
    assert lost > 20


@pytest.mark.parametrize("scheduler", ["none", "asha", "hyperband"])
@pytest.mark.parametrize("algorithm", ["random", "grid"])
def test_the_parameters_are_those_of_a_sweep_that_nobody_disturbed(scheduler: str, algorithm: str) -> None:
    for seed in range(10):
        still = World(program(scheduler, algorithm, seed=seed), seed=seed)
        still.run()
        disturbed = storm(scheduler, algorithm, seed)
        assert [(t.number, t.parameters) for t in still.history.trials.values()] == [
            (t.number, t.parameters) for t in disturbed.history.trials.values()
        ]


@pytest.mark.parametrize("algorithm", ["random", "grid"])
def test_without_a_scheduler_the_results_are_the_same_too(algorithm: str) -> None:
    for seed in range(10):
        still = World(program("none", algorithm, seed=seed), seed=seed)
        still.run()
        disturbed = World(program("none", algorithm, seed=seed), seed=seed + 1, kills=6, failures=3, stops=2)
        disturbed.run()
        for number, trial in still.history.trials.items():
            assert list(trial.reports()) == list(disturbed.history.trials[number].reports())


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "pbt"])
def test_who_was_told_to_stop_never_goes_on(scheduler: str) -> None:
    """Where every event is stored before it is acted on. Where the last ones are lost with the driver, only
    those whose verdict was lost are judged anew."""
    stops = anew = 0
    for seed in range(20):
        for lost in (False, True):
            world = storm(scheduler, "random", seed, lost=lost)
            told = [(run, at) for run, at, _ in world.orders]
            stored = {
                (entry["run"], entry["at"]) for entry in events(world)
                if entry["event"] == "report" and entry["verdict"] != "continue"
            }  # fmt: skip
            stops += len(stored)
            trained = {(run, at): count for run, at, count in world.orders}  # as it was told the last time
            assert all(len(world.runs[run].trained) == trained[run, at] for run, at in stored)
            anew += len(told) - len(stored)
            if not lost:
                assert sorted(told) == sorted(stored)
    assert stops > 50
    assert anew  # it does happen


def test_copies_begin_with_a_state_of_one_that_was_better() -> None:
    copies = 0
    for seed in range(20):
        world = storm("pbt", "random", seed)
        history = world.history
        for trial in history.trials.values():
            for before, segment in zip(trial.segments, trial.segments[1:], strict=False):
                source = segment.start.source
                assert source is not None
                assert source.trial != trial.number
                copies += 1
                seen = {
                    report.at: report.value for report in history.segment(source.trial, source.run).reports
                }
                assert before.outcome in ("copied", "diverged")
                if before.outcome == "copied":
                    assert before.value is not None
                    assert seen[source.step] < before.value
                assert world.runs[segment.start.run].checkpoints
    assert copies > 50


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_finished_sweep_that_is_extended_leaves_the_old_trials_and_numbers_on(scheduler: str) -> None:
    for seed in range(10):
        world = World(program(scheduler, trials=5, seed=seed), seed=seed, kills=3)
        world.run()
        entries, runs = list(world.entries), {name: list(run.trained) for name, run in world.runs.items()}
        assert world.launch().finished
        assert world.entries == entries
        world.program = dataclasses.replace(world.program, trials=9)
        world.left["kill"] = 3
        world.run()
        assert world.entries[: len(entries)] == entries
        assert {entry["trial"] for entry in events(world)[len(entries) :]} == {6, 7, 8, 9}
        assert all(world.runs[name].trained == trained for name, trained in runs.items())
        assert all(trial.over for trial in world.history.trials.values())


def test_who_proposes_from_what_is_known_is_asked_with_what_is_known() -> None:
    """A proposal that depends on all reports survives deaths because a beginning is stored before its run
    begins: else a run would be given other parameters than it has, which the world refuses."""
    for seed in range(20):
        world = storm("asha", "tpe", seed)
        for trial in world.history.trials.values():
            assert world.runs[trial.last.start.run].parameters == trial.parameters


def test_no_fewer_trials_are_wanted_than_have_begun() -> None:
    before = course(program(trials=5))
    names(before, 5)
    assert course(program(trials=3), before.history).wanted == 5

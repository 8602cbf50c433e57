"""The driver of a sweep and its desk. Segments are arithmetic here; system/test_sweep_local.py trains."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import jobs
from lehr import index, journal, spec, status
from lehr.checkpoint import copying
from lehr.errors import (
    CheckpointError,
    LaunchError,
    LehrError,
    SpecError,
    StorageError,
    Superseded,
    UserError,
)
from lehr.launch import admission, entrance, keeper, serial, stopping, sweeps
from lehr.launch.desk import Desk, View
from lehr.launch.diary import Heard
from lehr.plan import Plan
from lehr.status import Status
from lehr.store import Store
from lehr.sweep import program as programs
from lehr.sweep.program import Program
from lehr.sweep.records import History, Source, Start
from lehr.worker.outcome import Outcome

RATE = "train.optimizer.learning_rate"
SWEEP = """
validation: {every: {steps: 2}}
search:
  space: {train.optimizer.learning_rate: {log: [1.0e-3, 10.0]}}
  metric: validation/loss
  trials: 6
"""


def program(*sets: str, job: str = jobs.LENET, run_id: str | None = None) -> Program:
    return programs.make(spec.parse(job + SWEEP, sets=sets), run_id=run_id)


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return jobs.storage(tmp_path)


def rate(plan: Plan) -> float:
    return plan.spec.train.optimizer.learning_rate


class Segment:
    """A stand-in for a piece: its loss is its learning rate, more at the beginning; every run is counted."""

    began: list[str]
    befalls: Callable[[Segment], Any]  # at each look; may raise, or give its end

    def __init__(self, plan: Plan, storage: Store) -> None:
        self.plan, self.run, self.at = plan, storage.below(plan.run_id), 0
        self.asked: str | None = None
        self.train_s = 2.0

    def begin(self) -> None:
        self.began.append(self.plan.run_id)
        self.run.write("plan.json", b"{}")

    def hear(self, within_s: float) -> list[Heard]:
        if self.asked is not None or self.at >= self.plan.steps:
            return []
        self.at += 2
        return [Heard(self.at, {"validation/loss": rate(self.plan) * (2 - self.at / self.plan.steps)})]

    @property
    def over(self) -> Outcome | LehrError | None:
        if (end := type(self).befalls(self)) is not None:
            return end
        if self.asked is not None:
            return Outcome("diverged" if self.asked else "stopped", self.at, message=self.asked)
        return Outcome("completed", self.at) if self.at >= self.plan.steps else None

    def stop(self, diverged: str = "") -> None:
        self.asked = diverged

    abandon = stop


@pytest.fixture(autouse=True)
def segments(monkeypatch: pytest.MonkeyPatch) -> type[Segment]:
    monkeypatch.setattr(Segment, "began", [], raising=False)
    monkeypatch.setattr(Segment, "befalls", staticmethod(lambda segment: None), raising=False)
    monkeypatch.setattr(serial, "Piece", Segment)
    monkeypatch.setattr(keeper, "BEAT_S", 0.01)
    return Segment


def history(storage: Store, name: str = "lenet") -> History:
    return History.read(journal.read(storage.below(name)))


def outcomes(storage: Store) -> dict[int, str | None]:
    return {number: trial.last.outcome for number, trial in history(storage).trials.items()}


# --- a whole sweep ----------------------------------------------------------------------------------


def test_sweep_runs_to_its_end_and_leaves_what_readers_need(storage: Store, segments: type[Segment]) -> None:
    views: list[View] = []
    result = sweeps.run(program(), storage, local=True, watch=views.append)
    assert (result.status, result.trials, result.over) == ("completed", 6, 6)
    assert segments.began == [f"lenet-{number:04d}" for number in range(1, 7)]
    assert result.best is not None
    best = min(history(storage).trials.values(), key=lambda trial: trial.parameters[RATE])
    assert result.best.number == best.number
    folder = storage.below("lenet")
    said = status.read(folder)
    assert said is not None
    assert (said.status, said.step, said.steps) == ("completed", 6, 6)
    assert index.read(storage)["lenet"].metric is not None
    rows = [json.loads(line) for line in folder.read("results.jsonl").splitlines()]
    assert [row["trial"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {row["outcome"] for row in rows} == {"completed"}
    assert json.loads(folder.read("sweep.json"))["run_id"] == "lenet"
    assert b"search:" in folder.read("spec.yaml")
    assert (views[-1].wanted, len(views[-1].history.trials), views[-1].slots) == (6, 6, 1)
    kinds = [entry["type"] for entry in journal.read_attempt(folder, 1)]
    assert (kinds[0], kinds[-1]) == ("start", "end")


def test_finished_sweep_does_nothing_and_more_trials_are_numbered_on(
    storage: Store, segments: type[Segment]
) -> None:
    sweeps.run(program(), storage, local=True)
    before = history(storage)
    segments.began.clear()
    assert sweeps.run(program(), storage, local=True).over == 6
    assert segments.began == []
    result = sweeps.run(program().extended(8), storage, local=True)
    assert (result.trials, result.over, segments.began) == (8, 8, ["lenet-0007", "lenet-0008"])
    after = history(storage)
    assert after.wanted == 8
    assert {n: after.trials[n] for n in before.trials} == before.trials
    # The job file still says 6.
    assert sweeps.run(program(), storage, local=True).trials == 8


def test_sweep_that_was_stopped_goes_on_where_it_stood(storage: Store, segments: type[Segment]) -> None:
    stops: list[bool] = []

    def befalls(segment: Segment) -> None:
        if segment.plan.run_id.endswith("3") and segment.at == 4 and not stops:
            stops.append(True)
            stopping.ask(storage.below("lenet"))
        if stops and segment.asked is None and len(stops) < 2:
            time.sleep(0.02)  # the keeper hears it between two values

    segments.befalls = befalls  # type: ignore[method-assign,assignment]
    result = sweeps.run(program("train.duration={steps: 60}"), storage, local=True)
    assert (result.status, result.over, result.message) == ("stopped", 2, keeper.ASKED)
    assert outcomes(storage) == {1: "completed", 2: "completed", 3: "interrupted"}
    stops.append(True)
    segments.began.clear()
    result = sweeps.run(program("train.duration={steps: 60}"), storage, local=True)
    assert (result.status, result.over) == ("completed", 6)
    assert segments.began[0] == "lenet-0003"
    assert len(segments.began) == 4


def test_wish_to_stop_by_whoever_called_is_heard(storage: Store) -> None:
    result = sweeps.run(program(), storage, local=True, asked=lambda: True)
    assert (result.status, result.message) == ("stopped", keeper.ASKED)


def test_parameters_do_not_depend_on_interruptions(storage: Store, segments: type[Segment]) -> None:
    sweeps.run(program(run_id="quiet"), storage, local=True)
    deaths = iter(range(3))

    class Death(BaseException):
        pass

    def befalls(segment: Segment) -> None:
        if segment.at == 4 and next(deaths, None) is not None:
            raise Death

    segments.befalls = befalls  # type: ignore[method-assign,assignment]
    for _ in range(3):
        with pytest.raises(Death):
            sweeps.run(program(), storage, local=True)
    sweeps.run(program(), storage, local=True)
    disturbed, quiet = history(storage), history(storage, "quiet")
    assert [one.parameters for one in disturbed.trials.values()] == [
        one.parameters for one in quiet.trials.values()
    ]
    assert set(outcomes(storage).values()) == {"completed"}
    steps = [report.at for trial in disturbed.trials.values() for report in trial.reports()]
    assert steps == [2, 4, 6, 8, 10] * 6, "no value is told twice"


def test_end_that_a_driver_did_not_live_to_say_is_said_by_the_next(storage: Store) -> None:
    """A verdict is in the journal, and no end."""
    asha = program("search.scheduler=asha", "search.trials=12")
    sweeps.run(asha, storage, local=True)
    folder = storage.below("lenet")
    lines = folder.read(journal.key(1)).splitlines(keepends=True)
    cut = next(
        number for number, line in enumerate(lines, start=1) if json.loads(line).get("verdict") == "stop"
    )
    folder.write(journal.key(1), b"".join(lines[:cut]))
    unsaid = json.loads(lines[cut - 1])
    assert sweeps.run(asha, storage, local=True).over == 12
    ends = [entry for entry in journal.read(folder) if entry.get("event") == "ended"]
    assert sorted(entry["trial"] for entry in ends) == list(range(1, 13))
    [end] = [entry for entry in ends if entry["trial"] == unsaid["trial"]]
    assert (end["outcome"], end["at"], end["value"]) == ("stopped", unsaid["at"], unsaid["value"])
    assert history(storage).trials[unsaid["trial"]].last.message == unsaid["reason"]


def test_asha_stops_bad_trials_and_the_best_survives(storage: Store) -> None:
    result = sweeps.run(program("search.scheduler=asha", "search.trials=12"), storage, local=True)
    assert result.over == 12
    assert set(outcomes(storage).values()) == {"completed", "stopped"}
    assert result.best is not None
    assert result.best.last.outcome == "completed"


# --- ends of trials ---------------------------------------------------------------------------------


def test_value_out_of_bounds_is_a_divergence_and_no_report(storage: Store) -> None:
    sweeps.run(program("search.diverged_above=0.1", "search.mode=max"), storage, local=True)
    trials = history(storage).trials
    diverged = [trial for trial in trials.values() if trial.diverged]
    assert diverged
    assert len(diverged) < len(trials)
    assert all(trial.parameters[RATE] > 0.05 for trial in diverged)
    assert all(abs(report.value) <= 0.1 for trial in trials.values() for report in trial.reports())
    assert "validation/loss is " in diverged[0].last.message


def test_divergence_stops_the_sweep_where_it_is_to(storage: Store) -> None:
    job = program("search.diverged_above=0.1", "search.on_divergence=stop")
    result = sweeps.run(job, storage, local=True)
    assert result.status == "stopped"
    assert "diverged" in result.message
    assert list(outcomes(storage).values())[-1] == "diverged"
    go_on = program("search.diverged_above=0.1", "search.on_divergence=worst")
    assert sweeps.run(go_on, storage, local=True).over == 6


def test_error_that_may_pass_is_tried_again_and_then_the_trial_failed(
    storage: Store, segments: type[Segment]
) -> None:
    def befalls(segment: Segment) -> None:
        if segment.plan.run_id.endswith("2"):
            raise StorageError("no answer")

    segments.befalls = befalls  # type: ignore[method-assign,assignment]
    with pytest.raises(LaunchError, match=r"1 trials failed, 5 of 6 are over.*lenet-0002: no answer"):
        sweeps.run(program("recovery.max_failures=2"), storage, local=True)
    assert segments.began.count("lenet-0002") == 3
    assert outcomes(storage)[2] == "failed"
    segments.befalls = lambda segment: None  # type: ignore[method-assign,assignment]
    assert sweeps.run(program("recovery.max_failures=2"), storage, local=True).over == 6


def test_mistake_of_the_user_ends_the_sweep_at_once(storage: Store, segments: type[Segment]) -> None:
    segments.befalls = lambda segment: UserError("no such data")  # type: ignore[method-assign,assignment]
    with pytest.raises(UserError, match="no such data"):
        sweeps.run(program(), storage, local=True)
    assert segments.began == ["lenet-0001"]
    said = status.read(storage.below("lenet"))
    assert said is not None
    assert (said.status, said.message) == ("failed", "no such data")


def test_trials_that_fail_one_after_another_end_the_sweep(storage: Store, segments: type[Segment]) -> None:
    segments.befalls = lambda segment: LaunchError("no room")  # type: ignore[method-assign,assignment]
    with pytest.raises(LaunchError, match="3 trials failed one after another; the last one: no room"):
        sweeps.run(program(), storage, local=True)
    assert len(segments.began) == 3


# --- the budget, and another driver -----------------------------------------------------------------


def test_budget_holds_over_all_launches(storage: Store, segments: type[Segment]) -> None:
    segments.befalls = lambda segment: time.sleep(0.05)  # type: ignore[method-assign,assignment]
    bounded = program(f"search.budget={{hours: {1.0 / 3600}}}", "search.trials=40")
    result = sweeps.run(bounded, storage, local=True)
    assert (result.status, result.message) == ("stopped", "search.budget is used up")
    began = len(segments.began)
    again = sweeps.run(bounded, storage, local=True)
    assert again.status == "stopped"
    assert len(segments.began) <= began + 1
    more = program("search.budget={hours: 1}", "search.trials=40")
    segments.befalls = lambda segment: None  # type: ignore[method-assign,assignment]
    assert sweeps.run(more, storage, local=True).over == 40


def test_launch_that_was_killed_counts_to_its_last_sign_of_life(storage: Store) -> None:
    begin(storage)
    folder = storage.below("lenet")
    entries = journal.read_attempt(folder, 1)
    lines = [{"type": "start", "time": 1000.0, "attempt": 2, "step": 0, "from_step": 0, "spent_s": 50.0},
             {"type": "event", "time": 1003.0, "attempt": 2, "step": None, "event": "other"}]  # fmt: skip
    assert entries[0]["spent_s"] == 0.0
    folder.create(journal.key(2), "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    for beat, spent_s in ((1001.0, 53.0), (1020.0, 70.0)):
        told = {"status": "running", "step": 1, "steps": 6, "attempt": 2, "time": beat}
        folder.write(status.KEY, json.dumps(told).encode())
        assert entrance.before(program(), folder, say=print).spent_s == spent_s


def test_driver_whose_sweep_was_taken_over_writes_nothing_more(
    storage: Store, segments: type[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, claimed = storage.below("lenet"), threading.Event()
    monkeypatch.setattr("lehr.fence.FRESH_S", 0.0)
    monkeypatch.setattr(sweeps, "Fence", lambda store, attempt: sweeps_fence(store, attempt))

    def befalls(segment: Segment) -> None:
        if segment.plan.run_id.endswith("2") and not claimed.is_set():
            journal.claim_attempt(folder)
            status.write(folder, Status("running", 1, 6, 2, "the other"))
            claimed.set()
        if claimed.is_set():
            time.sleep(0.02)

    segments.befalls = befalls  # type: ignore[method-assign,assignment]
    with pytest.raises(Superseded):
        sweeps.run(program("train.duration={steps: 1000}"), storage, local=True)
    said = status.read(folder)
    assert said is not None
    assert said.message == "the other"
    assert "lenet-0003" not in segments.began
    assert "ended" not in [e.get("event") for e in journal.read_attempt(folder, 1) if e.get("trial") == 2]


def sweeps_fence(store: Store, attempt: int) -> Any:
    from lehr.fence import Fence

    return Fence(store, attempt, fresh_s=0.0)


# --- who may go on ----------------------------------------------------------------------------------


def begin(storage: Store, *sets: str) -> None:
    sweeps.run(program(*sets), storage, local=True)


def refused(storage: Store, wanted: Program) -> str:
    attempts = journal.attempts(storage.below(wanted.run_id))
    with pytest.raises(UserError) as told:
        sweeps.run(wanted, storage, local=True)
    assert journal.attempts(storage.below(wanted.run_id)) == attempts, "it was refused before it began"
    return str(told.value)


def test_driver_that_died_before_its_first_word_locks_nobody_out(storage: Store) -> None:
    journal.claim_attempt(storage.below("lenet"))
    assert entrance.before(program(), storage.below("lenet"), say=print).history.trials == {}


def test_folder_of_a_run_is_refused(storage: Store) -> None:
    journal.claim_attempt(storage.below("lenet"))
    storage.write("lenet/plan.json", b"{}")
    text = refused(storage, program())
    assert "holds a run that is no sweep" in text
    assert "--run lenet-sweep" in text


@pytest.mark.parametrize(("change", "line"), [
    ("train.seed=7", "train.seed: 0 -> 7"),
    ("train.duration={steps: 20}", "train.duration: "),
    ("validation.every={steps: 5}", "validation.every: "),
    ("search.seed=3", "search.seed: 0 -> 3"),
    ("search.scheduler=asha", 'search.scheduler: "none" -> "asha"'),
    ("search.mode=max", 'search.mode: "min" -> "max"'),
])  # fmt: skip
def test_other_jobs_sweep_is_refused_with_the_difference(storage: Store, change: str, line: str) -> None:
    begin(storage)
    assert line in refused(storage, program(change))


def test_differences_name_what_tells_trials_apart_and_nothing_else() -> None:
    before, after = program().spec.document(), program("search.trials=9", "storage=other").spec.document()
    assert entrance.differences(before, after) == []
    after["model"]["kind"], after["search"]["reduction"] = "other", 4
    assert entrance.differences(before, after) == [
        'model.kind: "lenet" -> "other"',
        "search.reduction: 3 -> 4",
    ]


@pytest.mark.parametrize("change", [
    "search.trials=7", "search.concurrent=1", "search.budget={hours: 3}", "checkpoint.keep_last=5",
    "recovery.max_failures=9", "storage=elsewhere",
])  # fmt: skip
def test_what_changes_no_trial_may_change(storage: Store, change: str) -> None:
    begin(storage)
    assert sweeps.run(program(change), storage, local=True).status == "completed"


def test_sweep_that_lives_is_refused(storage: Store) -> None:
    begin(storage)
    folder = storage.below("lenet")
    admission.sign(folder)
    assert "it runs right now" in refused(storage, program())
    driver = {"host": socket.gethostname(), "pid": os.getpid(), "created": psutil.Process().create_time() - 9}
    folder.write(admission.DRIVER, json.dumps(driver).encode())  # that process is gone
    status.write(folder, Status("running", 1, 6, 1))
    assert sweeps.run(program(), storage, local=True).status == "completed"


def test_more_trials_are_remembered_before_the_first_has_begun(storage: Store) -> None:
    for wanted, trials in ((program(), 6), (program().extended(9), 9), (program(), 9)):
        assert sweeps.run(wanted, storage, local=True, asked=lambda: True).trials == trials
    assert history(storage).trials == {}


SPACE = "search.space={train.optimizer.learning_rate: {log: %s}}"


def test_wider_space_is_taken_and_told(storage: Store) -> None:
    begin(storage)
    wide = program(SPACE % "[1.0e-5, 100.0]").extended(9)
    assert sweeps.run(wide, storage, local=True).over == 9
    events = [e for e in journal.read(storage.below("lenet")) if e.get("event") in ("space", "extended")]
    assert [event["event"] for event in events] == ["space", "extended"]
    assert events[0]["space"] == {RATE: {"log": [1e-5, 100.0]}}
    # From now on that is the space: the first one is another one again, and may have trials outside.
    assert sweeps.run(wide, storage, local=True).over == 9
    spaces = [e for e in journal.read(storage.below("lenet")) if e.get("event") == "space"]
    assert len(spaces) == 1


def test_space_that_loses_a_trial_is_refused_with_the_difference(storage: Store) -> None:
    begin(storage)
    text = refused(storage, program(SPACE % "[1.0, 10.0]"))
    assert '{"log": [0.001, 10]} -> {"log": [1, 10]}' in text
    assert "trials outside the new space:" in text
    lost = [trial for trial in history(storage).trials.values() if trial.parameters[RATE] < 1.0]
    assert lost[0].last.start.run in text
    keys = "search.space={train.optimizer.learning_rate: {log: [0.001, 10]}, train.seed: {int: [0, 3]}}"
    assert "train.seed: absent" in refused(storage, program(keys))


# --- the desk ---------------------------------------------------------------------------------------


class Paper:
    """A journal that keeps events in a list."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.stores = True

    def drain(self, patience_s: float) -> bool:
        return self.stores

    def event(self, event: str, step: int | None = None, **fields: Any) -> dict[str, Any]:
        self.events.append({"event": event, **fields})
        return self.events[-1]


def desk(storage: Store, *sets: str, **given: Any) -> tuple[Desk, Paper]:
    from lehr.sweep import searchers
    from lehr.sweep.course import Course

    made, paper = program(*sets), Paper()
    course = Course(made, searchers.make(made.search), History())
    return Desk(made, course, paper, storage.below("lenet/trials"), **given), paper


def test_nothing_begins_that_is_not_stored(storage: Store) -> None:
    """A driver that died would propose other parameters under the same number."""
    our, paper = desk(storage, "recovery.max_unsaved_minutes=0.005")
    paper.stores = False
    start = our.next()
    assert start is not None
    assert our.begin(start) is None
    assert (paper.events[-1]["event"], paper.events[-1]["outcome"]) == ("ended", "failed")
    assert "could not be stored" in paper.events[-1]["message"]


def test_desk_gives_no_more_than_may_run_at_once(storage: Store) -> None:
    our, _ = desk(storage, "search.concurrent=2")
    for _ in range(2):
        start = our.next()
        assert start is not None
        assert our.next() == start, "asking changes nothing"
        assert our.begin(start) is not None
    assert our.next() is None
    assert not our.done
    our.ended(start, Outcome("completed", 10))
    assert our.next() is not None


def test_desk_journals_before_it_answers_and_says_each_word_once(storage: Store) -> None:
    moments = iter(range(100))
    our, paper = desk(storage, "search.scheduler=asha", now=lambda: float(next(moments)))
    first, second = our.next(), None
    assert first is not None
    our.begin(first)
    assert our.heard(first, [Heard(2, {"validation/loss": 1.0}), Heard(2, {"train/loss": 5.0})]) == "continue"
    assert our.heard(first, [Heard(2, {"validation/loss": 1.0})]) == "continue"
    for loss in (6.0, 7.0, 8.0, 9.0):
        second = our.next()
        assert second is not None
        our.begin(second)
        word = our.heard(second, [Heard(2, {"validation/loss": loss})])
    assert word == "stop"
    assert our.heard(second, [Heard(4, {"validation/loss": 0.1})]) == "stop"
    assert our.view().running[second.run].at == 2
    our.ended(second, Outcome("stopped", 4), train_s=3.5)
    assert paper.events[-1] | {"message": ""} == {
        "event": "ended", "trial": 5, "run": "lenet-0005", "outcome": "stopped", "at": 4, "message": "",
        "value": 9.0, "train_s": 3.5, "wall_s": 1.0,
    }  # fmt: skip
    assert [event["event"] for event in paper.events].count("report") == 5


def test_desk_counts_training_of_earlier_launches_once(storage: Store) -> None:
    our, paper = desk(storage)
    start = our.next()
    assert start is not None
    our.begin(start)
    our.ended(start, Outcome("stopped", 4), train_s=3.0)
    assert paper.events[-1]["outcome"] == "interrupted"
    our.begin(start)
    our.ended(start, Outcome("completed", 10), train_s=5.0)
    assert [e["train_s"] for e in paper.events if e["event"] == "ended"] == [3.0, 2.0]


@pytest.mark.parametrize(("values", "word"), [
    ({"train/loss": float("nan")}, "diverged"),
    ({"train/loss": 1e7}, "diverged"),
    ({"validation/loss": float("-inf")}, "diverged"),
    ({"validation/accuracy": float("nan"), "time/step_s": 1e9}, "continue"),
])  # fmt: skip
def test_desk_knows_a_divergence(storage: Store, values: dict[str, float], word: str) -> None:
    our, paper = desk(storage)
    start = our.next()
    assert start is not None
    our.begin(start)
    assert our.heard(start, [Heard(1, values)]) == word
    our.ended(start, Outcome("stopped", 2))
    assert paper.events[-1]["outcome"] == ("diverged" if word == "diverged" else "interrupted")
    assert our.reason(start) == (paper.events[-1]["message"] if word == "diverged" else "")


def test_desk_copies_the_state_that_a_segment_begins_with(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[tuple[Any, ...]] = []

    def adopt(source: Store, step: int, into: Store, **rest: Any) -> None:
        copies.append((source.url, step, into.url, rest["learning_rate"]))
        if len(copies) > 1:
            raise CheckpointError("nothing to copy")

    monkeypatch.setattr(copying, "adopt", adopt)
    our, paper = desk(storage)
    start = Start(1, 2, "lenet-0001-2", {RATE: 0.25}, Source(3, "lenet-0003", 4))
    trials = storage.below("lenet/trials")
    assert our.begin(start) is not None
    assert copies == [(trials.below("lenet-0003").url, 4, trials.below("lenet-0001-2").url, 0.25)]
    assert our.begin(replace(start, trial=2, run="lenet-0002-2")) is None
    assert paper.events[-1]["outcome"] == "failed"
    assert "nothing to copy" in paper.events[-1]["message"]


def test_copy_waits_for_the_checkpoint_whose_value_was_told(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A validation is told before the checkpoint of its step is committed."""
    our, _ = desk(storage)
    first = our.next()
    assert first is not None
    our.begin(first)
    steps, copied = iter([None, 3, 6]), []
    monkeypatch.setattr(admission, "newest_step", lambda run: next(steps))
    monkeypatch.setattr(copying, "adopt", lambda *given, **rest: copied.append(next(steps, "none left")))
    start = Start(2, 2, "lenet-0002-2", first.parameters, Source(1, first.run, 6))
    our._adopt(start, our.program.plan(start))
    assert copied == ["none left"], "it looked until the step was there, and no longer"


def test_setting_that_is_no_job_is_a_result(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    our, paper = desk(storage)

    def refuse(program: Program, start: Start) -> Plan:
        raise SpecError("train.global_batch: 96 examples cannot be divided")

    monkeypatch.setattr(Program, "plan", refuse)
    start = our.next()
    assert start is not None
    assert our.begin(start) is None
    assert [event["event"] for event in paper.events] == ["trial", "ended"]
    assert paper.events[-1]["outcome"] == "diverged", "an error would be taken up again by each launch"
    assert "cannot be divided" in paper.events[-1]["message"]
    assert our.leave == ""
    following = our.next()
    assert following is not None
    assert following.trial == 2


def test_table_that_cannot_be_drawn_leaves_nobody_deaf(storage: Store) -> None:
    from lehr.fence import Fence

    our, _ = desk(storage)

    def watch(view: View) -> None:
        raise ValueError("no such colour")

    attempt = journal.claim_attempt(storage.below("lenet"))
    fence = Fence(storage.below("lenet"), attempt)
    with keeper.Keeper(our, storage, attempt, fence, watch=watch, wish=lambda: "asked"):
        assert our.leave == "asked"
        assert status.read(storage.below("lenet")) is not None

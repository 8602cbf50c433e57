"""What becomes of segments that run on Ray Tune, without a cluster: with a desk that a test writes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

import jobs
from lehr.errors import LehrError, UserError
from lehr.launch import asking, floor, tuning
from lehr.launch.diary import Heard
from lehr.launch.failure import Failure
from lehr.launch.floor import NOW, OVER, Floor
from lehr.launch.room import Growth, Room, Space
from lehr.launch.standstill import HUNG
from lehr.sweep.records import Start
from lehr.worker.outcome import Outcome

DIED = "SYSTEM_ERROR, connection error code 2"


@dataclass
class Desk:
    """Gives so many segments, and writes down how they ended.

    Args:
        left: segments to begin.
        slots: at once.
        word: what it says to all that it hears.
    """

    left: int = 3
    slots: int = 2
    word: Any = "continue"
    leave: str = ""
    lost: bool = False
    begun: int = 0
    unable: set[int] = field(default_factory=set)
    hosts: dict[str, str] = field(default_factory=dict)
    heard_: list[Heard] = field(default_factory=list)
    ends: list[tuple[str, str, float]] = field(default_factory=list)

    def next(self) -> Start | None:
        number = self.begun + 1
        return None if self.begun >= self.left or self.leave else Start(number, 1, f"r-{number}", {})

    @property
    def done(self) -> bool:
        return self.next() is None

    def begin(self, start: Start) -> Any:
        self.begun += 1
        if start.trial in self.unable:
            self.ended(start, LehrError("nothing to copy"))
            return None
        return "plan"

    def at(self, start: Start, host: str) -> None:
        self.hosts[start.run] = host

    def heard(self, start: Start, entries: list[Heard]) -> Any:
        self.heard_ += entries
        return self.word

    def reason(self, start: Start) -> str:
        return "train/loss is nan" if self.word == "diverged" else ""

    def ended(self, start: Start, end: Any, *, train_s: float = 0.0) -> None:
        word = end.status if isinstance(end, Outcome) else type(end).__name__
        self.ends.append((start.run, word, train_s))


@dataclass
class Stage:
    """A floor and its desk; `now` is its clock."""

    desk: Desk
    folder: Path
    most: int = 1
    now: float = 0.0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        run: Any = self.desk
        self.floor = Floor(
            run, jobs.storage(self.folder), most=self.most, say=self.lines.append, now=lambda: self.now
        )

    def suggested(self) -> str:
        """The run that begins now, or why none does."""
        found = self.floor.suggest()
        return found if isinstance(found, str) else found[0].run


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(Desk(), tmp_path)


def over(word: str = "completed") -> dict[str, Any]:
    return {"outcome": Outcome(word, 5).document(), "train_s": 2.5}  # type: ignore[arg-type]


def failed(kind: str = "ValueError", *, final: bool = False) -> dict[str, Any]:
    return {"failure": Failure(kind, "no such thing", final).document(), "train_s": 1.0}


def test_as_many_begin_as_fit(stage: Stage) -> None:
    assert [stage.suggested() for _ in range(3)] == ["r-1", "r-2", NOW]
    assert not stage.floor.said("r-1", over())
    assert [stage.suggested() for _ in range(2)] == ["r-3", NOW]
    assert not stage.floor.said("r-2", over())
    assert stage.suggested() == NOW
    assert not stage.floor.said("r-3", over())
    assert stage.suggested() == OVER
    assert stage.desk.ends == [(f"r-{number}", "completed", 2.5) for number in (1, 2, 3)]


def test_one_that_cannot_begin_gives_way_to_the_next(stage: Stage) -> None:
    stage.desk.unable = {1}
    assert stage.suggested() == "r-2"
    assert stage.desk.ends == [("r-1", "LehrError", 0.0)]


def test_what_is_heard_reaches_the_desk(stage: Stage) -> None:
    stage.suggested()
    assert stage.floor.said("r-1", {"host": "h1", "heard": [[1, {"train/loss": 2.0}]]})
    assert stage.desk.hosts == {"r-1": "h1"}
    assert stage.desk.heard_ == [Heard(1, {"train/loss": 2.0})]
    assert stage.floor.wishes() == []


@pytest.mark.parametrize("word", ["stop", "diverged"])
def test_a_wish_is_told_once_and_its_end_is_waited_for(stage: Stage, word: str) -> None:
    stage.suggested()
    stage.desk.word = word
    assert stage.floor.said("r-1", {"heard": [[1, {}]]})
    assert stage.floor.wishes() == [("r-1", word, stage.desk.reason(Start(1, 1, "r-1", {})))]
    assert stage.floor.wishes() == []
    assert not stage.floor.said("r-1", over("stopped"))
    assert stage.desk.ends == [("r-1", "stopped", 2.5)]


@pytest.mark.parametrize(("word", "after_s"), [("stop", floor.STOP_S), ("diverged", floor.DIVERGED_S)])
def test_who_does_not_end_in_time_is_cut(stage: Stage, word: str, after_s: float) -> None:
    stage.suggested()
    stage.desk.word = word
    stage.floor.said("r-1", {"heard": [[1, {}]]})
    stage.now = after_s - 1
    assert stage.floor.overdue() == []
    stage.now = after_s + 1
    assert stage.floor.overdue() == ["r-1"]
    stage.floor.cut("r-1")
    assert stage.desk.ends == [("r-1", "stopped", 0.0)]
    assert not stage.floor.said("r-1", over())  # its last word comes late
    stage.floor.fell("r-1", DIED)
    assert len(stage.desk.ends) == 1


def test_all_end_when_the_sweep_leaves(stage: Stage) -> None:
    stage.suggested(), stage.suggested()
    stage.desk.leave = "somebody asked"
    assert [run for run, word, _ in stage.floor.wishes() if word == "stop"] == ["r-1", "r-2"]
    assert stage.suggested() == NOW
    stage.floor.said("r-1", over("stopped")), stage.floor.said("r-2", over("stopped"))
    assert stage.suggested() == OVER


def test_all_are_cut_at_once_when_another_driver_has_the_sweep(stage: Stage) -> None:
    stage.suggested(), stage.suggested()
    stage.desk.leave, stage.desk.lost = "another", True
    assert stage.floor.overdue() == ["r-1", "r-2"]


def test_a_process_that_dies_is_replaced_as_often_as_the_job_says(stage: Stage) -> None:
    stage.suggested()
    stage.floor.said("r-1", {"host": "h1"})
    stage.floor.fell("r-1", DIED)
    assert stage.desk.ends == []
    assert stage.desk.hosts == {"r-1": ""}
    assert DIED in stage.lines[0]
    stage.floor.fell("r-1", DIED)
    assert [end[:2] for end in stage.desk.ends] == [("r-1", "LaunchError")]


def test_an_error_counts_once_though_it_is_told_and_raised(stage: Stage) -> None:
    stage.suggested()
    assert stage.floor.said("r-1", failed())
    stage.floor.fell("r-1", "WorkerFailed")
    assert stage.desk.ends == []
    assert not stage.floor.said("r-1", failed())
    assert [end[:2] for end in stage.desk.ends] == [("r-1", "LaunchError")]


def test_a_mistake_of_the_user_is_not_tried_again(stage: Stage) -> None:
    stage.suggested()
    mistake = {"failure": Failure("UserError", "data.root: nothing", True).document(), "train_s": 0.0}
    assert not stage.floor.said("r-1", mistake)
    assert stage.desk.ends == [("r-1", UserError.__name__, 0.0)]


def test_one_whose_host_goes_is_started_again_and_that_is_no_failure(stage: Stage) -> None:
    stage.suggested()
    for _ in range(5):
        assert stage.floor.said("r-1", over("left"))
        stage.floor.fell("r-1", "WorkerFailed")
    assert stage.desk.ends == []


def test_a_process_that_dies_while_it_is_to_end_is_not_replaced(stage: Stage) -> None:
    stage.suggested()
    stage.desk.word = "stop"
    stage.floor.said("r-1", {"heard": [[1, {}]]})
    stage.floor.fell("r-1", DIED)
    assert stage.desk.ends == [("r-1", "stopped", 0.0)]


def test_a_stop_that_comes_before_it_raises_ends_it(stage: Stage) -> None:
    """Its next process would not have heard of it."""
    stage.suggested()
    assert stage.floor.said("r-1", failed())
    stage.desk.leave = "somebody asked"
    assert [wish[:2] for wish in stage.floor.wishes()] == [("r-1", "stop")]
    stage.floor.fell("r-1", "WorkerFailed")
    assert stage.desk.ends == [("r-1", "stopped", 0.0)]
    assert stage.suggested() == OVER


def test_the_process_of_one_that_hangs_gets_no_other(stage: Stage) -> None:
    """Whether it is given up or not: it is to raise, and so to end."""
    stage.suggested()
    assert stage.floor.said("r-1", failed(HUNG))
    stage.floor.fell("r-1", "WorkerFailed")
    assert stage.desk.ends == []
    assert stage.floor.said("r-1", failed(HUNG))
    assert [end[:2] for end in stage.desk.ends] == [("r-1", "LaunchError")]


def test_one_that_tune_gives_up_is_suggested_again(stage: Stage) -> None:
    stage.suggested()
    stage.floor.fell("r-1", DIED)
    stage.floor.lost("r-1")
    assert [stage.suggested() for _ in range(3)] == ["r-1", "r-2", NOW]
    assert stage.desk.begun == 2
    stage.floor.fell("r-1", DIED)
    stage.floor.lost("r-1")
    assert [end[:2] for end in stage.desk.ends] == [("r-1", "LaunchError")]
    assert stage.suggested() == "r-3"


def test_one_that_tune_gives_up_while_all_end_is_over(stage: Stage) -> None:
    stage.suggested()
    stage.desk.leave = "somebody asked"
    stage.floor.wishes()
    stage.floor.fell("r-1", DIED)
    stage.floor.lost("r-1")
    assert stage.desk.ends == [("r-1", "stopped", 0.0)]
    assert stage.suggested() == OVER


# --- between Tune and the floor -------------------------------------------------------------------


def tune_trial(status: str, actor: Any = None) -> Any:
    state = SimpleNamespace(ray_actor=actor)
    return SimpleNamespace(
        config={"run": "r-1"}, status=status, temporary_state=state, error_file="/nowhere/error.txt"
    )


def test_a_death_that_tune_tells_twice_counts_once(stage: Stage) -> None:
    """As Tune tells of a process that died idle, or in its `reset`: for the process, then for the task."""
    asker, judge = asking.Asker(stage.floor, lambda plan: {"run": "r-1"}, int), asking.Judge(stage.floor, int)
    asker.suggest("tune-1")
    judge.on_trial_error(None, tune_trial(Trial.ERROR))
    judge.on_trial_error(None, tune_trial(Trial.PENDING))
    asker.on_trial_complete("tune-1", error=True)
    assert stage.desk.ends == []
    assert stage.floor.places["r-1"].failures == 1
    assert asker.suggest("tune-2") == {"run": "r-1"}
    judge.on_trial_error(None, tune_trial(Trial.PENDING, actor="its process, which raised in `reset`"))
    asker.on_trial_complete("tune-2", error=True)
    assert [end[:2] for end in stage.desk.ends] == [("r-1", "LaunchError")]


def test_room_that_comes_is_seen_while_tune_has_nothing_to_do(stage: Stage) -> None:
    stage.desk.slots = 0

    def beat() -> None:
        stage.desk.slots = 1

    asker = asking.Asker(stage.floor, lambda plan: {"run": "r-1"}, beat)
    assert asker.suggest("tune-1") == {"run": "r-1"}


# --- room -----------------------------------------------------------------------------------------


def test_trials_are_counted_as_wholes() -> None:
    there = Room((Space("h1", total={"CPU": 3.0}), Space("h2", total={"CPU": 2.0})))
    two = jobs.plan(jobs.LENET, "strategy={kind: horovod, workers: 2}")
    elastic = jobs.plan(jobs.LENET, "strategy={kind: horovod, workers: [2, 8]}")
    assert tuning.whole(there, {"CPU": 1.0}, jobs.plan(jobs.LENET)) == 5
    assert tuning.whole(there, {"CPU": 1.0}, two) == 2  # and one CPU idles
    assert tuning.whole(there, {"CPU": 2.0}, two) == 1  # no worker is split
    assert tuning.whole(there, {"CPU": 1.0}, elastic) == 1
    assert tuning.whole(there, {"CPU": 4.0}, two) == 0


def test_an_autoscaler_counts_with_what_it_may_add() -> None:
    there = Room((Space("head", total={}),), (Growth("small", {"CPU": 4.0}, 3),))
    assert tuning.whole(there, {"CPU": 1.0}, jobs.plan(jobs.LENET)) == 12


def test_one_trial_waits_where_an_autoscaler_goes_nobody_knows_how_far() -> None:
    """It asks for a host by waiting for one."""
    head = Space("head", total={"CPU": 0.0})
    assert tuning.whole(Room((head,), bounded=False), {"CPU": 1.0}, jobs.plan(jobs.LENET)) == 1
    two = Space("h1", total={"CPU": 2.0})
    assert tuning.whole(Room((head, two), bounded=False), {"CPU": 1.0}, jobs.plan(jobs.LENET)) == 3


@pytest.mark.parametrize(
    ("address", "total", "slots"),
    [
        (None, {"CPU": 9.0, "GPU": 1.0}, 1),
        (None, {"CPU": 9.0}, 8),
        ("head:6379", {"CPU": 9.0, "GPU": 2.0}, 2),
        ("head:6379", {"CPU": 9.0}, 9),
    ],
)
def test_slots_are_trials_that_fit_with_all_they_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, total: dict[str, float], slots: int
) -> None:
    there = Room((Space("h1", total=total),))
    monkeypatch.setattr(tuning.embedded, "cluster", lambda *args, **given: contextlib.nullcontext(there))
    monkeypatch.setattr(tuning, "_prepare", lambda plan, address: None)
    monkeypatch.setattr(tuning, "_loop", lambda *args: None)
    search = SimpleNamespace(space={}, concurrent=8)
    program: Any = SimpleNamespace(search=search, trials=40, base=lambda: jobs.plan(jobs.LENET))
    desk: Any = Desk(slots=0)
    tuning.run(desk, program, jobs.storage(tmp_path), address=address)
    assert desk.slots == slots


@pytest.mark.parametrize(
    ("strategy", "own"),
    [("{kind: single}", {"CPU": 1.0}), ("{kind: horovod, workers: 2}", {tuning.HEAD: 0.001})],
)
def test_who_waits_for_workers_takes_no_room_from_them(strategy: str, own: dict[str, float]) -> None:
    plan = jobs.plan(jobs.LENET, f"strategy={strategy}")
    place = tuning.Place(Room((Space("h1", total={"CPU": 4.0}),)), None)
    assert place.task(plan) == {"wants": own, "address": None, "hidden": True}

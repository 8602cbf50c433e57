"""Training goes on while storage fails, for as long as the job allows; then it does what the job says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lehr.checkpoint.shares import Patience
from lehr.errors import CheckpointError, Superseded
from lehr.spec.sections import Recovery
from lehr.worker.outage import Outage


class Scene:
    """A saver, a clock and a listener."""

    def __init__(self, policy: str, *, minutes: float = 30.0) -> None:
        self._time, self.asked, self.events = 0.0, False, list[tuple[str, dict[str, Any]]]()
        self.saver = SimpleNamespace(
            committed=4, failed_since=None, failed_last=None, problem="", fenced=False, waiting=0,
            wait=self._wait,
        )  # fmt: skip
        self.at: dict[float, Any] = {}  # what happens when
        recovery = Recovery.model_validate({"on_storage_outage": policy, "max_unsaved_minutes": minutes})
        self.outage = Outage(
            self.saver, recovery, where="run", asked=lambda: self.asked,
            tell=lambda event, **fields: self.events.append((event, fields)),
            clock=Patience(now=lambda: self.now, sleep=self._sleep),
        )  # fmt: skip

    @property
    def now(self) -> float:
        return self._time

    @now.setter
    def now(self, moment: float) -> None:
        self._time = moment
        if self.saver.failed_since is not None and self.saver.waiting:  # it is tried all the time
            self.saver.failed_last = moment

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()
        assert self.now < 1e6, "it waits for ever"

    def _wait(self, timeout_s: float) -> int | None:
        if self.saver.waiting:
            self._sleep(timeout_s)
        return self.saver.committed

    def fail(self, at: float = 0.0) -> None:
        self.saver.failed_since = self.saver.failed_last = at
        self.saver.problem, self.saver.waiting = "503 SlowDown", 1

    def recover(self, step: int = 8) -> None:
        self.saver.failed_since, self.saver.problem = None, ""
        self.saver.waiting, self.saver.committed = 0, step


@pytest.mark.parametrize("policy", ["pause", "stop", "continue"])
def test_a_failure_is_borne_for_so_many_minutes(policy: str) -> None:
    scene = Scene(policy)
    scene.outage.look(5)
    scene.fail(at=100.0)
    scene.now = 100.0 + 30 * 60 - 1
    scene.outage.look(6)
    assert scene.events == []


def test_then_stop_ends_the_run_with_a_letter() -> None:
    scene = Scene("stop")
    scene.fail()
    scene.now = 30 * 60
    with pytest.raises(CheckpointError, match=r"could not be saved \(503 SlowDown\).* is of step 4") as error:
        scene.outage.look(6)
    assert "do: mend the storage and give the same command again" in str(error.value)


def test_then_continue_says_it_once_an_outage() -> None:
    scene = Scene("continue")
    for _ in range(2):
        scene.fail(at=scene.now)
        scene.now += 30 * 60
        for step in range(6, 9):
            scene.outage.look(step)
        scene.recover()
        scene.outage.look(9)
    unsaved = ("unsaved", {"step": 6, "reason": "503 SlowDown", "committed": 4})
    assert scene.events[0] == unsaved
    assert [name for name, _ in scene.events] == ["unsaved", "unsaved"]


def test_then_pause_waits_until_it_is_saved() -> None:
    scene = Scene("pause")
    scene.fail()
    scene.now = 30 * 60
    scene.at[scene.now + 1000] = scene.recover
    scene.outage.look(6)
    assert scene.now >= 30 * 60 + 1000
    assert [name for name, _ in scene.events] == ["paused", "unpaused"]
    assert scene.events[1][1]["after_s"] >= 1000


def test_a_pause_ends_when_somebody_wants_the_run_to_stop() -> None:
    scene = Scene("pause")
    scene.fail()
    scene.now = 30 * 60
    scene.at[scene.now + 10] = lambda: setattr(scene, "asked", True)
    scene.outage.look(6)
    assert scene.now < 30 * 60 + 20


@pytest.mark.parametrize("policy", ["pause", "stop", "continue"])
def test_the_end_waits_for_the_storage(policy: str) -> None:
    scene = Scene(policy)
    scene.fail()
    scene.at[1000.0] = scene.recover
    scene.outage.finish(8)
    assert scene.now >= 1000


def test_the_end_of_a_pausing_job_waits_without_bound() -> None:
    scene = Scene("pause", minutes=1.0)
    scene.fail()
    scene.at[10_000.0] = scene.recover
    scene.outage.finish(8)
    assert scene.now >= 10_000


@pytest.mark.parametrize(("policy", "asked"), [("stop", False), ("continue", False), ("pause", True)])
def test_the_end_gives_up_at_last(policy: str, asked: bool) -> None:
    scene = Scene(policy, minutes=1.0)
    scene.asked = asked
    scene.fail()
    with pytest.raises(CheckpointError, match="is of step 4"):
        scene.outage.finish(8)
    assert 60 <= scene.now < 70


def test_the_end_tries_once_more_when_the_storage_may_just_be_back() -> None:
    scene = Scene("pause")
    scene.fail()
    scene.saver.failed_last = 30 * 60.0
    scene.now, scene.asked = 31 * 60.0, True  # somebody wanted it to stop, in the pause
    scene.at[31 * 60.0 + 20] = scene.recover
    scene.outage.finish(8)
    assert scene.now < 31 * 60.0 + 30


def test_a_last_checkpoint_that_failed_for_good_is_told() -> None:
    scene = Scene("pause")
    scene.saver.problem = "rank 1 could not write its parts"
    with pytest.raises(CheckpointError, match="rank 1 could not write its parts"):
        scene.outage.finish(8)
    scene.outage.finish(8, insist=False)
    scene.outage.finish(4)


def test_an_attempt_that_was_overtaken_ends() -> None:
    scene = Scene("continue")
    scene.saver.fenced = True
    for end in (scene.outage.look, scene.outage.finish):
        with pytest.raises(Superseded, match="this attempt is over"):
            end(6)


@pytest.mark.parametrize("policy", ["pause", "stop", "continue"])
def test_one_save_that_failed_for_good_is_no_outage(policy: str) -> None:
    """A pause would never end: nothing is sent that could get through."""
    scene = Scene(policy)
    scene.saver.failed_since = scene.saver.failed_last = 0.0
    for step in range(5, 8):
        scene.now += 3600
        scene.outage.look(step)
    assert scene.events == []


def test_saves_that_all_fail_for_good_are_not_waited_for_once_they_are_over() -> None:
    scene = Scene("pause")
    scene.fail()
    scene.now = 30 * 60
    scene.at[scene.now + 10] = lambda: setattr(scene.saver, "waiting", 0)
    scene.outage.look(6)
    assert scene.now < 30 * 60 + 20
    assert [name for name, _ in scene.events] == ["paused", "unpaused"]
    scene.outage.look(7)
    assert len(scene.events) == 2, "and said once"


def test_saves_that_all_fail_for_good_end_a_run_that_is_to_stop() -> None:
    scene = Scene("stop")
    scene.fail()
    scene.now = 30 * 60
    scene.saver.waiting = 0
    with pytest.raises(CheckpointError, match="could not be saved"):
        scene.outage.look(6)


def test_a_pause_that_another_worker_began_is_told_by_this_one_too() -> None:
    scene = Scene("pause")
    assert not scene.outage.announce(6)
    scene.fail()
    scene.saver.failed_last = scene.now = 30 * 60.0
    assert scene.outage.announce(6)  # asked from the thread that writes the status
    assert scene.outage.announce(6)
    assert [name for name, _ in scene.events] == ["paused"]
    scene.now += 100.0
    scene.recover()
    scene.outage.look(7)
    assert scene.events[1:] == [("unpaused", {"step": 7, "after_s": 100.0})]

"""What a run says while it waits for room, and whom it hears."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr import index, journal, status
from lehr.cli import stored
from lehr.errors import StorageError
from lehr.launch import entry, stopping, waiting
from lehr.launch.waiting import Stopped, Waiting
from lehr.status import Status
from lehr.store import Store

PLAN = jobs.plan(jobs.LENET, "train.duration={steps: 40}")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Queued:
    """A run in a folder that waits."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.told = Clock(), list[str]()
        storage = jobs.storage(folder)
        self.run: Store = storage.below(PLAN.run_id)
        self.waiting = Waiting(entry.document(PLAN, storage.url), self.told.append, now=self.clock)

    def say(self, message: str, *, after_s: float = 0.5) -> Status:
        self.clock.time += after_s
        self.waiting.say(message)
        return self.said()

    def said(self) -> Status:
        found = status.read(self.run)
        assert found is not None
        return found


@pytest.fixture
def queued(tmp_path: Path) -> Queued:
    return Queued(tmp_path)


def test_a_run_that_never_ran_is_queued(queued: Queued) -> None:
    said = queued.say("waits for room: ...")
    assert dataclasses.replace(said, time=0.0) == Status("queued", 0, 40, 0, "waits for room: ...")
    assert queued.told == ["waits for room: ..."]


def test_a_run_that_lost_its_hosts_keeps_its_attempt_and_step(queued: Queued) -> None:
    journal.claim_attempt(queued.run)
    queued.run.write("checkpoints/step-00000020.a1/manifest.json", b"{}")
    said = queued.say("waits")
    assert (said.attempt, said.step, said.steps) == (1, 20, 40)


def test_it_writes_now_and_then_only_and_never_falls_silent(queued: Queued) -> None:
    written: set[float] = set()
    for look in range(200):
        said = queued.say("the same" if look < 100 else f"free: {look}")
        written.add(said.time)
    assert abs(len(written) - (50 / waiting.HEARTBEAT_S + 50 / waiting.PERIOD_S)) <= 2
    assert waiting.HEARTBEAT_S < status.SILENT_S
    assert len(queued.told) == 2, "the driver hears of it once a minute"


def test_a_status_that_somebody_alive_wrote_stays(queued: Queued, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.claim_attempt(queued.run)
    status.write(queued.run, Status("running", 7, 40, 1))
    said = queued.say("waits")
    assert said.status == "running"
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment + waiting.BEATING_S)
    said = queued.say("waits")
    assert said.status == "queued"


@pytest.mark.parametrize("last", ["queued", "failed", "stopped"])
def test_a_status_of_the_past_does_not(queued: Queued, last: str) -> None:
    status.write(queued.run, Status(last, 7, 40, 0))
    said = queued.say("waits")
    assert said.message == "waits"


def test_lists_show_that_it_waits_and_not_how_its_last_worker_ended(queued: Queued, tmp_path: Path) -> None:
    journal.claim_attempt(queued.run)
    storage, ended = jobs.storage(tmp_path), status.write(queued.run, Status("failed", 7, 40, 1))
    index.Writer(storage, PLAN.run_id).tell(ended)
    assert [run.status.status for run in stored.runs(storage) if run.status] == ["failed"]
    queued.say("waits")
    assert [run.status.status for run in stored.runs(storage) if run.status] == ["queued"]


def test_once_there_is_room_it_waits_for_nothing(queued: Queued) -> None:
    queued.say("waits")
    queued.waiting.over()
    said = queued.said()
    assert (said.status, said.message) == ("queued", "")
    assert queued.told == ["waits", "there is room: the workers start"]
    queued.waiting.over()
    assert len(queued.told) == 2
    queued.say("waits again")
    assert queued.told[-1] == "waits again"


def test_who_never_waited_says_nothing(queued: Queued) -> None:
    queued.waiting.over()
    assert (queued.told, status.read(queued.run)) == ([], None)


def test_between_two_attempts_it_is_queued_and_says_why(queued: Queued, tmp_path: Path) -> None:
    journal.claim_attempt(queued.run)
    queued.run.write("checkpoints/step-00000020.a1/manifest.json", b"{}")
    ended = status.write(queued.run, Status("failed", 27, 40, 1, "ValueError: shapes differ"))
    index.Writer(jobs.storage(tmp_path), PLAN.run_id).tell(ended)
    queued.waiting.again("worker 1 failed (failures 1 of 3)")
    said = dataclasses.replace(queued.said(), time=0.0)
    assert said == Status("queued", 20, 40, 1, "worker 1 failed (failures 1 of 3)")
    assert [run.status.status for run in stored.runs(jobs.storage(tmp_path)) if run.status] == ["queued"]
    queued.waiting.over()
    assert queued.said().message == "worker 1 failed (failures 1 of 3)"
    assert queued.told == [], "the failure policy has told the driver"


def test_a_run_that_waits_between_two_attempts_says_for_what_and_then_why_again(queued: Queued) -> None:
    queued.waiting.again("worker 1 failed")
    assert queued.say("waits for room").message == "waits for room"
    queued.waiting.over()
    assert queued.said().message == "worker 1 failed"
    queued.say("waits", after_s=100.0)
    queued.waiting.over()
    assert queued.said().message == "", "that was another attempt"


def test_why_it_begins_anew_is_not_said_over_the_word_of_one_that_lives(queued: Queued) -> None:
    status.write(queued.run, Status("running", 7, 40, 0))
    queued.waiting.again("worker 1 failed")
    assert queued.said().status == "running"


def test_a_run_that_can_never_go_on_has_failed(queued: Queued) -> None:
    queued.say("waits")
    for last in (queued.said(), Status("running", 7, 40, 0)):  # of a worker that was killed a moment ago
        status.write(queued.run, last)
        queued.waiting.end("recovery.exclude_after: ...")
        assert (queued.said().status, queued.said().message) == ("failed", "recovery.exclude_after: ...")


def test_a_wish_to_stop_is_heard(queued: Queued) -> None:
    queued.say("waits")
    stopping.ask(queued.run)
    with pytest.raises(Stopped) as stop:
        queued.say("waits", after_s=waiting.LISTEN_S)
    said = queued.said()
    assert said.status == "stopped"
    outcome = waiting.stopped(type("ControllerError", (Exception,), {"controller_failure": stop.value})())
    assert outcome == {"status": "stopped", "step": 0, "metrics": {}, "message": ""}
    assert waiting.stopped(ValueError()) is None


def test_storage_that_fails_stops_nobody(queued: Queued, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StorageError("it is away")

    queued.say("waits")
    with monkeypatch.context() as patch:
        patch.setattr(status, "write", fail)
        queued.say("waits longer", after_s=100.0)
        queued.waiting.over()
        queued.waiting.again("worker 1 failed")
        queued.waiting.end("never")
    said = queued.say("waits again", after_s=100.0)
    assert said.message == "waits again"

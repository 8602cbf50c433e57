"""A segment as it looks to who drives it. What trains is a stand-in here; see system/test_sweep_local.py."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr import journal, status
from lehr.errors import DivergenceError, LaunchError, LehrError, StorageError, UserError
from lehr.journal import Journal
from lehr.launch import diary, local, stopping, train, trial
from lehr.launch.diary import Diary, Heard, trained_s
from lehr.launch.trial import Piece
from lehr.plan import Plan
from lehr.store import Store
from lehr.worker.outcome import Outcome

PATIENCE_S = 60.0
WORKERS = ("strategy={kind: horovod, workers: 2}",)


@pytest.fixture(autouse=True)
def _no_worker_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have had workers in it, whose settings it would keep."""
    monkeypatch.setattr(trial, "_configured", {})


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return jobs.storage(tmp_path).below("sweep/trials")


def plan(*sets: str) -> Plan:
    return jobs.plan(jobs.LENET, *sets, run_id="sweep-0001")


def write(run: Store, values: dict[int, dict[str, float]], *, begins: int = 0, end: str = "") -> None:
    """One attempt at a run, as a worker journals it."""
    attempt = Journal(run, journal.claim_attempt(run))
    attempt.start(begins)
    for step, told in values.items():
        attempt.metrics(step, told)
    if end:
        attempt.end(max(values, default=0), end)
    attempt.close()


def replaced(monkeypatch: pytest.MonkeyPatch, work: Callable[..., Outcome]) -> None:
    """Whatever begins a piece's worker calls `work` in its thread."""
    monkeypatch.setattr(local, "spawn", work)
    monkeypatch.setattr(train, "within", work)
    monkeypatch.setattr(local, "here", lambda plan, storage, begin: work(plan, storage))


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives, once that is true."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def listen(piece: Piece) -> tuple[list[Heard], Any]:
    """All that it says, and how it ends."""
    heard: list[Heard] = []
    end = until(lambda: heard.extend(piece.hear(0.05)) or piece.over)
    return heard, end


def test_workers_elsewhere_are_heard_through_their_journal(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(plan: Plan, storage: Store, **rest: Any) -> Outcome:
        write(storage.below(plan.run_id), {2: {"train/loss": 3.0}, 4: {"validation/loss": 2.0}})
        return Outcome("completed", 10)

    replaced(monkeypatch, work)
    piece = Piece(plan(*WORKERS), storage)
    piece.begin()
    heard, end = listen(piece)
    assert heard == [Heard(2, {"train/loss": 3.0}), Heard(4, {"validation/loss": 2.0})]
    assert end.status == "completed"


def test_end_is_told_after_everything_was_heard(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(plan: Plan, storage: Store, **rest: Any) -> Outcome:
        write(storage.below(plan.run_id), {10: {"validation/loss": 2.0}})
        return Outcome("completed", 10)

    replaced(monkeypatch, work)
    piece = Piece(plan(*WORKERS), storage)
    piece.begin()
    assert piece._work is not None
    assert piece._work.done(within_s=PATIENCE_S)
    assert piece.over is None, "there is something to hear"
    assert piece.hear(0.0) == [Heard(10, {"validation/loss": 2.0})]
    assert isinstance(piece.over, Outcome)


def test_values_of_an_earlier_launch_are_heard_first(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage.below("sweep-0001"), {2: {"validation/loss": 3.0}})
    replaced(monkeypatch, lambda plan, storage, **rest: Outcome("stopped", 2))
    piece = Piece(plan(), storage)
    piece.begin()
    assert listen(piece)[0] == [Heard(2, {"validation/loss": 3.0})]


@pytest.mark.parametrize(("end", "word"), [("completed", "completed"), ("diverged", "diverged")])
def test_segment_that_had_ended_is_not_started_again(
    storage: Store, monkeypatch: pytest.MonkeyPatch, end: str, word: str
) -> None:
    def work(plan: Plan, storage: Store, **rest: Any) -> Outcome:
        raise AssertionError("it trains")

    write(storage.below("sweep-0001"), {10: {"validation/loss": 3.0}}, end=end)
    replaced(monkeypatch, work)
    piece = Piece(plan(), storage)
    piece.begin()
    heard, outcome = listen(piece)
    assert (len(heard), outcome.status, outcome.step) == (1, word, 10)
    assert piece.close(0.0)


def test_segment_that_was_stopped_before_its_end_goes_on(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(storage.below("sweep-0001"), {4: {}}, end="stopped")
    replaced(monkeypatch, lambda plan, storage, **rest: Outcome("completed", 10))
    piece = Piece(plan(), storage)
    piece.begin()
    assert listen(piece)[1].step == 10


def test_wish_to_stop_reaches_workers_elsewhere_through_storage(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def work(plan: Plan, storage: Store, **rest: Any) -> Outcome:
        until(lambda: storage.below(plan.run_id).size(stopping.KEY))
        asked.set()
        return Outcome("stopped", 3)

    replaced(monkeypatch, work)
    piece = Piece(plan(*WORKERS), storage)
    piece.begin()
    piece.stop()
    assert listen(piece)[1] == Outcome("stopped", 3)
    assert asked.is_set()


def test_workers_of_this_machine_that_diverge_are_killed_and_their_run_says_so(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(plan: Plan, storage: Store, *, given_up: Callable[[], bool]) -> Outcome:
        write(storage.below(plan.run_id), {5: {"train/loss": 1e9}})
        until(given_up)
        raise LaunchError("killed")

    replaced(monkeypatch, work)
    piece = Piece(plan(*WORKERS), storage)
    piece.begin()
    until(lambda: piece.hear(0.05))
    piece.stop("train/loss is 1e+09 at step 5")
    end = listen(piece)[1]
    assert (end.status, end.step, end.message) == ("diverged", 5, "train/loss is 1e+09 at step 5")
    said = status.read(storage.below("sweep-0001"))
    assert said is not None
    assert said.status == "diverged"


def test_worker_here_that_diverges_is_told_before_its_next_step(storage: Store) -> None:
    piece = Piece(plan(), storage)
    assert piece._is_to_stop() is False
    piece.stop()
    assert piece._is_to_stop() is True
    piece.stop("too far")
    with pytest.raises(DivergenceError, match="too far"):
        piece._is_to_stop()


def test_taken_over_sweep_leaves_the_folder_of_the_run_alone(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(plan: Plan, storage: Store, *, given_up: Callable[[], bool]) -> Outcome:
        until(given_up)
        raise LaunchError("killed")

    replaced(monkeypatch, work)
    piece = Piece(plan(*WORKERS), storage)
    piece.begin()
    piece.abandon()
    assert isinstance(listen(piece)[1], LaunchError)
    assert storage.below("sweep-0001").size(stopping.KEY) is None
    assert status.read(storage.below("sweep-0001")) is None


@pytest.mark.parametrize(("sets", "error", "is_result"), [
    ((), UserError("no such data"), True),
    ((), StorageError("no answer"), False),
    ((), RuntimeError("a defect"), False),
    (WORKERS, StorageError("no answer"), True),  # it was tried again already
    (WORKERS, LaunchError("three times"), True),
])  # fmt: skip
def test_error_is_a_result_where_trying_again_is_in_vain(
    storage: Store, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...], error: Exception, is_result: bool
) -> None:
    def work(plan: Plan, storage: Store, **rest: Any) -> Outcome:
        raise error

    replaced(monkeypatch, work)
    piece = Piece(plan(*sets), storage)
    piece.begin()
    if is_result:
        assert listen(piece)[1] is error
        assert isinstance(error, LehrError)
        return
    with pytest.raises(type(error)):
        listen(piece)


def test_storage_that_does_not_answer_is_asked_again(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = threading.Event()
    read = diary.growing.read

    def faulty(*arguments: Any) -> bytes:
        if failing.is_set():
            raise StorageError("no answer")
        return read(*arguments)

    def work(plan: Plan, storage: Store, **rest: Any) -> Outcome:
        write(storage.below(plan.run_id), {5: {"validation/loss": 1.0}})
        return Outcome("completed", 10)

    monkeypatch.setattr(diary.growing, "read", faulty)
    replaced(monkeypatch, work)
    piece = Piece(plan(*WORKERS), storage)
    piece.begin()
    failing.set()
    assert piece._work is not None
    assert piece._work.done(within_s=PATIENCE_S)
    assert piece.hear(0.05) == []
    assert piece.over is None
    failing.clear()
    assert listen(piece)[0] == [Heard(5, {"validation/loss": 1.0})]


def test_process_keeps_what_its_first_worker_was_given(storage: Store) -> None:
    assert Piece(plan(), storage)._here
    assert Piece(plan("train.seed=5"), storage)._here
    assert not Piece(plan("strategy.cpus_per_worker=2"), storage)._here
    assert not Piece(plan(*WORKERS), storage)._here


def test_diary_reads_only_what_is_new_and_whole(storage: Store) -> None:
    run = storage.below("sweep-0001")
    told = Diary(run)
    assert told.new() == []
    write(run, {1: {"a": 1.0}})
    assert told.new() == [Heard(1, {"a": 1.0})]
    assert told.new() == []
    run.append(journal.key(1), b'{"type": "metrics", "step": 2, "val')
    assert told.new() == []
    run.append(journal.key(1), b'ues": {"a": "nan"}}\nno JSON\n')
    [heard] = told.new()
    assert heard.step == 2
    assert heard.values["a"] != heard.values["a"], "NaN is a number again"
    write(run, {2: {"a": 2.0}}, begins=1, end="completed")
    assert told.new() == [Heard(2, {"a": 2.0})]
    assert told.end == ("completed", 2, "")


def test_diary_keeps_what_it_read_before_the_storage_failed(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read = storage.below("sweep-0001"), diary.growing.read
    write(run, {5: {"a": 1.0}})
    write(run, {7: {"a": 2.0}}, begins=5)
    failing = True

    def faulty(store: Store, key: str, start: int = 0) -> bytes:
        if failing and key == journal.key(2):
            raise StorageError("no answer")
        return read(store, key, start)

    monkeypatch.setattr(diary.growing, "read", faulty)
    told = Diary(run)
    with pytest.raises(StorageError):
        told.new()
    failing = False
    assert told.new() == [Heard(5, {"a": 1.0}), Heard(7, {"a": 2.0})]


def test_training_is_counted_over_all_attempts(storage: Store) -> None:
    run = storage.below("sweep-0001")
    write(run, {10: {"time/step_s": 0.5}, 12: {"validation/loss": 1.0}, 20: {"time/step_s": 0.1}})
    write(run, {20: {"time/step_s": 0.2}}, begins=15)
    assert trained_s(run) == pytest.approx(10 * 0.5 + 10 * 0.1 + 5 * 0.2)
    assert trained_s(storage.below("none")) == 0.0


def test_heard_travels_as_json() -> None:
    heard = Heard(3, {"validation/loss": 1.5})
    assert Heard(**json.loads(json.dumps(vars(heard)))) == heard

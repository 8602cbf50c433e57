"""The process of a segment on Ray Tune, in this process, with a run that a test plays."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

import jobs
from lehr.errors import DivergenceError, StorageError, UserError
from lehr.launch import segment
from lehr.launch.diary import Heard
from lehr.launch.failure import WorkerFailed
from lehr.launch.segment import Request, Segment
from lehr.worker.outcome import Outcome

METRIC = "validation/loss"


class Piece:
    """What is set here is what it says, once each; then it is `end`."""

    says: ClassVar[list[Any]] = []
    end: Any = None
    begun: ClassVar[list[str]] = []
    asked: ClassVar[list[str]] = []
    train_s = 1.5

    def __init__(self, plan: Any, storage: Any, **given: Any) -> None:
        self.plan = plan

    def begin(self) -> None:
        self.begun.append(self.plan.run_id)

    def hear(self, within_s: float) -> list[Heard]:
        if not self.says:
            time.sleep(0 if self.end else min(within_s, 0.05))
            return []
        said = self.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return [said]

    @property
    def over(self) -> Any:
        if isinstance(self.end, ZeroDivisionError):
            raise self.end
        return self.end

    def stop(self, diverged: str = "") -> None:
        self.asked.append(diverged or "stop")

    def close(self, within_s: float) -> bool:
        return True


@pytest.fixture
def piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Piece]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(segment, "Piece", Piece)
    # This process has other tests to run afterwards.
    monkeypatch.setattr(segment, "_environment", lambda plan, hidden: {})
    monkeypatch.setattr(segment, "_tidy", lambda: None)
    monkeypatch.setattr(segment.entry, "settle", lambda folder: None)
    for name, value in (("says", []), ("end", None), ("begun", []), ("asked", [])):
        monkeypatch.setattr(Piece, name, value)
    return Piece


def made(folder: Path, run: str = "s-0001", *sets: str) -> Segment:
    """A process that was just started for a run."""
    found = Segment.__new__(Segment)
    found.setup(config(folder, run, *sets))
    return found


def config(folder: Path, run: str, *sets: str, slots: int = 1) -> dict[str, Any]:
    told = {"slots": slots, "address": None, "hidden": True, "metric": METRIC, "above": 100.0}
    plan, storage = jobs.plan(jobs.LENET, *sets, run_id=run), jobs.storage(folder)
    storage.write("s/sweep.json", b"{}")
    return segment.task(plan, storage, "s", wants={"CPU": 1.0}, **told)


def word(process: Segment) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.step()[segment.WORD])
    return found


def test_first_word_is_the_host(piece: type[Piece], tmp_path: Path) -> None:
    assert set(word(made(tmp_path))) == {"host"}
    assert piece.begun == ["s-0001"]


def test_a_value_and_one_out_of_bounds_are_told_at_once(
    piece: type[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "BEAT_S", 60.0)
    process = made(tmp_path)
    word(process)
    for name, value in ((METRIC, 1.0), ("train/loss", 101.0), ("train/loss", float("nan"))):
        piece.says[:] = [Heard(3, {name: value, "time/step_s": 0.1})]
        [[step, values]] = word(process)["heard"]
        assert step == 3
        assert list(values) == [name]
        assert str(values[name]) == str(value)


def test_the_rest_is_told_in_heaps(piece: type[Piece], tmp_path: Path) -> None:
    process = made(tmp_path)
    word(process)
    piece.says[:] = [Heard(step, {"train/loss": 1.0}) for step in (1, 2, 3)]
    assert [step for step, _ in word(process)["heard"]] == [1, 2, 3]


def test_the_end_comes_with_the_last_values(piece: type[Piece], tmp_path: Path) -> None:
    process = made(tmp_path)
    word(process)
    piece.says[:], piece.end = [Heard(10, {METRIC: 1.0})], Outcome("completed", 10)
    said = word(process)
    assert said["heard"] == [[10, {METRIC: 1.0}]]
    assert (said["outcome"]["status"], said["train_s"]) == ("completed", 1.5)


@pytest.mark.parametrize(
    ("end", "final"),
    [(UserError("no"), True), (DivergenceError("nan"), True), (StorageError("tried enough"), True),
     (ZeroDivisionError("what?"), False)],
)  # fmt: skip
def test_an_error_is_told_and_then_raised(
    piece: type[Piece], tmp_path: Path, end: Exception, final: bool
) -> None:
    process = made(tmp_path)
    word(process)
    piece.end = end
    told = word(process)["failure"]
    assert (told["kind"], told["final"]) == (type(end).__name__, final)
    if not final:
        with pytest.raises(WorkerFailed):
            process.step()


def test_wishes_reach_the_run(piece: type[Piece], tmp_path: Path) -> None:
    process = made(tmp_path)
    word(process)
    process.wish("stop", "")
    process.wish("diverged", "train/loss is nan")
    assert piece.asked == ["stop", "train/loss is nan"]


def test_one_that_is_not_wanted_any_more_is_not_begun(piece: type[Piece], tmp_path: Path) -> None:
    process = made(tmp_path)
    process.wish("stop", "")
    assert word(process)["outcome"]["status"] == "stopped"
    assert piece.begun == []


def test_the_process_gets_another_run(piece: type[Piece], tmp_path: Path) -> None:
    process = made(tmp_path)
    word(process)
    process.wish("stop", "")
    assert process.reset_config(config(tmp_path, "s-0002"))
    assert set(word(process)) == {"host"}
    assert piece.begun == ["s-0001", "s-0002"]


def test_storage_that_cannot_be_read_for_now_ends_no_workers_elsewhere(
    piece: type[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "BEAT_S", 0.1)
    process = made(tmp_path, "s-0001", "strategy={kind: horovod, workers: 2}")
    word(process)
    piece.says[:] = [Heard(4, {METRIC: 1.0}), StorageError("away"), Heard(8, {METRIC: 2.0})]
    assert [word(process)["heard"] for _ in range(2)] == [[[4, {METRIC: 1.0}]], [[8, {METRIC: 2.0}]]]


def test_a_host_that_does_not_see_the_folder_says_so(piece: type[Piece], tmp_path: Path) -> None:
    process = made(tmp_path)
    jobs.storage(tmp_path).delete("s/sweep.json")
    told = word(process)["failure"]
    assert told["final"]
    assert "does not see" in told["message"]
    assert piece.begun == []


def test_processes_that_are_configured_otherwise_are_not_shared() -> None:
    one, same = Request({"CPU": 1.0}, "a"), Request({"CPU": 1.0}, "a")
    assert one == same
    assert hash(one) == hash(same)
    assert one != Request({"CPU": 1.0}, "b")
    assert one != Request({"CPU": 2.0}, "a")


def test_a_process_has_only_so_many_trials(tmp_path: Path) -> None:
    """What cannot be collected would fill its host in a sweep of thousands."""
    first, last, next_one = (
        segment.Segment.default_resource_request(config(tmp_path, f"s-{number:04d}", slots=2))
        for number in (1, 2 * segment.SHARE, 2 * segment.SHARE + 1)
    )
    assert first == last
    assert hash(first) == hash(last)
    assert last != next_one

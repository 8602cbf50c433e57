"""The process of a segment on Ray Tune, in this process, with a run that a test plays."""

from __future__ import annotations

import json
import subprocess
import sys
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
from lehr.launch.standstill import HUNG
from lehr.vitals import Vitals
from lehr.worker.outcome import Outcome

METRIC = "validation/loss"


class Piece:
    """What is set here is what it says, once each; then it is `end`."""

    says: ClassVar[list[Any]] = []
    end: Any = None
    begun: ClassVar[list[str]] = []
    asked: ClassVar[list[str]] = []
    closes: ClassVar[list[float]] = []
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
        self.closes.append(within_s)
        return True


@pytest.fixture
def piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Piece]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(segment, "Piece", Piece)
    # This process has other tests to run afterwards.
    monkeypatch.setattr(segment, "_environment", lambda plan, hidden: {})
    monkeypatch.setattr(segment, "_tidy", lambda: None)
    monkeypatch.setattr(segment.entry, "settle", lambda folder: None)
    monkeypatch.setattr(segment.embedded, "prepare", lambda address: None)
    for name, value in (("says", []), ("end", None), ("begun", []), ("asked", []), ("closes", [])):
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


def test_its_process_has_what_ray_train_reads(
    piece: type[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is begun: the driver's own environment stays on the driver's host."""
    prepared: list[tuple[str | None, int]] = []
    monkeypatch.setattr(
        segment.embedded, "prepare", lambda address: prepared.append((address, len(piece.begun)))
    )
    process = Segment.__new__(Segment)
    given = config(tmp_path, "s-0001", "strategy={kind: horovod, workers: 2}")
    given["job"] = json.dumps(json.loads(given["job"]) | {"address": "head:6379"})
    process.setup(given)
    word(process)
    assert prepared == [("head:6379", 0)]


# --- one that hangs -------------------------------------------------------------------------------


class Killed(Exception):
    """Instead of this process's end."""


@pytest.fixture
def shown(piece: type[Piece], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was said with the stacks of one that hung."""
    found: list[str] = []

    def end(code: int) -> None:
        raise Killed

    monkeypatch.setattr(segment, "_show", found.append)
    monkeypatch.setattr(segment, "BEAT_S", 0.1)
    monkeypatch.setattr(segment, "OURS", Vitals(step=7, phase="compute", warm=True))
    monkeypatch.setattr(segment.os, "_exit", end)
    return found


SOON = "recovery={hang_minutes: 0.01, max_unsaved_minutes: 60}"  # 0.6 s


def test_one_that_hangs_shows_where_and_its_process_ends(
    piece: type[Piece], tmp_path: Path, shown: list[str]
) -> None:
    process = made(tmp_path, "s-0001", SOON)
    assert set(word(process)) == {"host"}
    until = time.monotonic() + 120
    while "failure" not in (said := word(process)):
        assert said == {"heard": []}
        assert time.monotonic() < until, "nobody saw that it hangs"
    told = said["failure"]
    assert (told["kind"], told["final"]) == (HUNG, False)
    assert "at step 7 in compute" in told["message"]
    assert shown == [told["message"]]
    with pytest.raises(WorkerFailed):
        process.step()
    with pytest.raises(Killed):
        process.cleanup()
    assert piece.closes == []  # nobody waits for what never ends


@pytest.mark.parametrize(
    ("vitals", "sets"),
    [
        (Vitals(phase="start"), SOON),
        (Vitals(step=7, phase="pause", warm=True), SOON),
        (Vitals(step=7, phase="end", warm=True), SOON),
        (Vitals(step=7, phase="compute", warm=True), "recovery={hang_minutes: 60}"),
    ],
)
def test_one_that_takes_its_time_does_not_hang(
    piece: type[Piece], tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch, vitals: Vitals,
    sets: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(segment, "OURS", vitals)
    process = made(tmp_path, "s-0001", sets)
    assert set(word(process)) == {"host"}
    assert all(word(process) == {"heard": []} for _ in range(20))


def test_time_in_which_nobody_looked_does_not_count(shown: list[str]) -> None:
    lookout, now = segment.Lookout(jobs.plan(jobs.LENET, "recovery={hang_minutes: 1}")), time.monotonic()
    looks = [bool(lookout.look(now + after)) for after in (1, 1000, 1015, 1030, 1045, 1060, 1075)]
    assert looks == [False] * 6 + [True]


def test_the_stacks_of_one_that_hangs_are_printed() -> None:
    """In a process of its own: others may have left so many threads that not all are shown."""
    program = (
        "from lehr.launch import segment, watchdog\n"
        "watchdog.GRACE_S = 1.0\n"
        "def it_hangs():\n    segment._show('rank 0 hangs')\n"
        "it_hangs()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert "rank 0 hangs" in done.stderr
    assert "in it_hangs" in done.stderr

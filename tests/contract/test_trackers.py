"""Every tracker takes the same calls, and none of its troubles reaches training."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import jobs
from fakes import FailingStore, MemoryStore
from lehr.journal import Journal
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking import replay, wandb
from lehr.tracking.online import Limits, Online
from lehr.tracking.replay import Row
from lehr.tracking.sending import Refused, Unsent, picture_file
from lehr.tracking.tracker import Background, Memory, Nothing, Tracker, make
from lehr.tracking.wandb import Offline

OFFLINE = "tracking.wandb={project: lehr, mode: offline}"


def png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("L", (4, 4), 128).save(buffer, "png")
    return buffer.getvalue()


def entries() -> list[dict[str, Any]]:
    head = {"time": 0.0, "attempt": 1}
    return [
        {"type": "start", "step": 0, "from_step": 0, **head},
        {"type": "metrics", "step": 1, "values": {"train/loss": 1.5, "odd": float("nan")}, **head},
        {"type": "event", "step": 1, "event": "checkpoint", "checkpoint": "step-00000001.a1", **head},
        {"type": "event", "step": 1, "event": "samples", "folder": "s", "pictures": ["grid", "gone"], **head},
        {"type": "event", "step": None, "event": "note", **head},
        {"type": "end", "step": 1, "outcome": "completed", **head},
    ]


class Board:
    """Stands for W&B: a session adds to it, and a server is asked what it has. It may be away, or refuse."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.files: dict[str, bytes] = {}
        self.told: list[str] = []
        self.begun = 0
        self.away: Exception | None = None
        self.losing = False  # takes rows and loses them
        self.answering = threading.Event()
        self.answering.set()

    def server(self) -> Board.Server:
        return Board.Server(self)

    class Server:
        def __init__(self, board: Board) -> None:
            self._board = board

        def rows(self) -> int:
            return self._board.ask()

        def checkpoints(self) -> set[str]:
            self._board.ask()
            return set(self._board.told)

        def files(self) -> set[str]:
            self._board.ask()
            return set(self._board.files)

        def upload(self, files: Iterable[tuple[str, bytes]]) -> None:
            self._board.ask()
            self._board.files |= dict(files)

    def ask(self) -> int:
        self.answering.wait(20)
        if self.away is not None:
            raise self.away
        return len(self.rows)

    def begin(self, plan: Plan) -> Session:
        self.begun += 1
        self.ask()
        return Session(self)

    def kill(self) -> None:
        self.answering.set()


class Session:
    """One client of the board."""

    def __init__(self, board: Board) -> None:
        self.rows, self.server, self._board = len(board.rows), board.server, board
        self.closed = False

    def row(self, row: Row, pictures: dict[str, bytes]) -> None:
        self._board.ask()
        assert not self.closed
        if not self._board.losing:
            assert row.number == len(self._board.rows)
            self._board.rows.append(row)
            self._board.files |= {picture_file(row, name, data): data for name, data in pictures.items()}

    def configure(self, told: dict[str, Any]) -> None:
        self._board.ask()

    def checkpoint(self, url: str, metadata: dict[str, Any]) -> None:
        self._board.told.append(metadata["checkpoint"])

    def finish(self, exit_code: int) -> None:
        self._board.ask()

    def close(self) -> None:
        self.closed = True


QUICK = Limits(close_s=10.0, answer_s=0.1, retry_s=(0.01, 0.05), check_s=0.02, stalled_s=0.1)


def online(run: Store, board: Board | None = None, **limits: Any) -> tuple[Online, list[str]]:
    """A tracker and what it says."""
    said: list[str] = []
    allowed = Limits(**{**vars(QUICK), **limits})
    return Online(run, board or Board(), tell=said.append, limits=allowed), said


@pytest.mark.parametrize("create", [
    lambda run: Nothing(),
    lambda run: Memory(),
    lambda run: Background(Memory()),
    Offline,
    lambda run: Background(Offline(run)),
    lambda run: online(run)[0],
], ids=["nothing", "memory", "background", "offline", "background-offline", "online"])  # fmt: skip
def test_a_life_of_calls(create: Callable[..., Tracker], tmp_path: Path) -> None:
    plan = jobs.plan(jobs.EBM, OFFLINE)
    run = jobs.storage(tmp_path).below(plan.run_id)
    run.write("s/grid.png", png())
    run.write("checkpoints/step-00000001.a1/manifest.json", b"{}")
    tracker = create(run)
    tracker.start(plan, 1)
    for entry in entries():
        tracker.record(entry)
    tracker.close()
    assert getattr(tracker, "problem", None) is None


def test_the_background_tells_everything_in_order() -> None:
    memory = Memory()
    tracker = Background(memory)
    plan = jobs.plan(jobs.EBM)
    tracker.start(plan, 3)
    for entry in entries():
        tracker.record(entry)
    tracker.close()
    told = [
        ("start", (plan, 3)),
        *(("record", (e,)) for e in entries()),
        ("close", ()),
    ]
    assert [name for name, _ in memory.calls] == [name for name, _ in told]
    assert memory.calls[2][1][0]["values"]["train/loss"] == 1.5


class Broken(Memory):
    def record(self, entry: dict[str, Any]) -> None:
        super().record(entry)
        raise OSError("no route to host")


def test_one_that_raises_is_switched_off_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    inner = Broken()
    tracker = Background(inner)
    for entry in entries():
        tracker.record(entry)
    tracker.close()
    assert isinstance(tracker.problem, OSError)
    assert len(inner.calls) == 1
    assert "tracking is switched off: OSError: no route to host" in capfd.readouterr().err


class Hanging(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def record(self, entry: dict[str, Any]) -> None:
        self.go_on.wait()


def test_one_that_hangs_holds_up_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    inner = Hanging()
    tracker = Background(inner, waiting=2, patience_s=0.3, close_s=0.2)
    began = time.monotonic()
    for _ in range(100):
        tracker.record(entries()[1])
    tracker.close()
    assert time.monotonic() - began < 5.0  # it would hang for ever
    assert tracker.lost >= 97
    said = capfd.readouterr().err
    assert "tracking did not end within 0.2 s" in said
    assert f"tracking missed {tracker.lost} entries" in said
    inner.go_on.set()


def test_one_that_is_slow_for_a_while_misses_nothing() -> None:
    class Slow(Memory):
        def record(self, entry: dict[str, Any]) -> None:
            time.sleep(0.01)
            super().record(entry)

    inner, said = Slow(), []
    tracker = Background(inner, tell=said.append, waiting=2)
    for _ in range(30):
        tracker.record(entries()[1])
    tracker.close()
    assert (len(inner.calls), tracker.lost, said) == (31, 0, [])


def test_what_the_job_asks_for_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    run = jobs.storage(tmp_path)

    def made(wandb: str) -> Tracker:
        return make(jobs.plan(jobs.EBM, f"tracking.wandb={wandb}"), run)

    assert isinstance(make(jobs.plan(jobs.EBM), run), Nothing)
    assert isinstance(made("{project: x, mode: disabled}"), Nothing)
    assert isinstance(made("{project: x}"), Online)
    assert isinstance(made("{project: x, mode: online, api_key: 'env:NOT_SET'}"), Online)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert isinstance(made("{project: x}"), Nothing)
    tracker = made("{project: lehr, mode: offline}")
    assert isinstance(tracker, Background)
    tracker.close()


class Life:
    """An attempt that trains on a store: the tracker hears of what is stored, as in a worker."""

    def __init__(self, run: Store, tracker: Tracker, attempt: int = 1, start: int = 0) -> None:
        self.run, self.tracker, self.step = run, tracker, start
        self.journal = Journal(run, attempt)
        tracker.start(jobs.plan(jobs.EBM), attempt)
        self._tell(self.journal.start(start))

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            self._tell(self.journal.metrics(self.step, {"train/loss": 1.0 / self.step}))

    def sample(self, folder: str, pictures: list[str]) -> None:
        self._tell(self.journal.event("samples", self.step, folder=folder, pictures=pictures))

    def end(self) -> None:
        self._tell(self.journal.end(self.step, "completed"))
        self.tracker.close()
        self.journal.close()

    def _tell(self, entry: dict[str, Any]) -> None:
        assert self.journal.flush(10.0)
        began = time.monotonic()
        self.tracker.record(entry)
        assert time.monotonic() - began < 5.0, "training waited"


def wanted(run: Store) -> list[Row]:
    return list(replay.rows(replay.entries(run)))


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_all_of_it_arrives_once(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board)
    life = Life(run, tracker)
    life.train(30)
    life.end()
    assert (board.rows, board.begun, said) == (wanted(run), 1, [])
    assert len(board.rows) == 30


def test_the_next_attempt_sends_a_picture_whose_row_alone_arrived(tmp_path: Path) -> None:
    """A client sends pictures apart from their rows: one that is killed in between leaves a row without."""
    run, board = jobs.storage(tmp_path), Board()
    run.write("s/grid.png", png())
    first = Life(run, online(run, board)[0])
    first.train(3)
    first.sample("s", ["grid"])
    first.end()
    assert list(board.files.values()) == [png()]
    whole = dict(board.files)
    board.files.clear()
    Life(run, online(run, board)[0], attempt=2, start=3).end()
    assert board.files == whole


def test_one_away_at_the_start_is_sent_all_when_it_comes(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    board.away = Unsent("no route to host")
    tracker, said = online(run, board)
    life = Life(run, tracker)
    life.train(10)
    until(lambda: board.begun > 2)
    assert len(said) == 1
    assert "W&B is behind: no route to host" in said[0]
    board.away = None
    until(lambda: len(board.rows) == 10)
    life.train(5)
    life.end()
    assert board.rows == wanted(run)
    assert [text for text in said if "lehr track sync" in text] == []


def test_one_that_goes_away_between_is_sent_the_rest(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board)
    life = Life(run, tracker)
    life.train(10)
    until(lambda: len(board.rows) == 10)
    board.away = Unsent("connection reset")
    life.train(10)
    until(lambda: said)
    board.away = None
    life.train(10)
    life.end()
    assert board.rows == wanted(run)


def test_one_that_takes_rows_and_loses_them_is_found_out(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board)
    life = Life(run, tracker)
    board.losing = True
    life.train(10)
    until(lambda: said)
    assert "no row has arrived" in said[0]
    board.losing = False
    life.end()
    assert board.rows == wanted(run)


def test_what_is_missing_at_the_end_is_said(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board)
    life = Life(run, tracker)
    board.losing = True
    life.train(3)
    life.end()
    run_id = jobs.plan(jobs.EBM).run_id
    assert said[-1].startswith(f"W&B lacks 3 rows of run {run_id} (")
    assert said[-1].endswith(f"): lehr track sync {run_id}")


def test_a_key_that_is_refused_is_not_tried_again(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    board.away = Refused("401: not logged in")
    tracker, said = online(run, board)
    life = Life(run, tracker)
    until(lambda: said)
    life.train(5)
    time.sleep(0.2)
    life.end()
    assert board.begun == 1
    assert len(said) == 2
    assert "with a key: lehr track sync" in said[0]
    assert "W&B lacks 5 rows" in said[1]


def test_a_key_that_expires_ends_it(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board)
    life = Life(run, tracker)
    life.train(5)
    until(lambda: len(board.rows) == 5)
    board.away = Refused("401: expired")
    until(lambda: said)
    life.train(5)
    life.end()
    assert board.begun == 1
    assert "W&B lacks up to " in said[-1]  # it cannot be asked any more


def test_one_that_hangs_holds_up_the_end_no_longer_than_said(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board, close_s=0.5)
    board.answering.clear()
    life = Life(run, tracker)
    life.train(5)
    began = time.monotonic()
    life.end()
    assert time.monotonic() - began < 10.0
    assert "took more than 0.5 s" in said[-1]


def test_a_slow_one_reads_the_journal_again(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, said = online(run, board, waiting=3)
    life = Life(run, tracker)
    until(lambda: board.begun == 1)
    life.train(1)
    until(lambda: len(board.rows) == 1)
    board.answering.clear()
    life.train(20)  # many more than may wait
    board.answering.set()
    life.end()
    assert (board.rows, said) == (wanted(run), [])


def test_a_later_attempt_goes_on_where_the_first_was_cut(tmp_path: Path) -> None:
    run, board = jobs.storage(tmp_path), Board()
    tracker, _ = online(run, board)
    first = Life(run, tracker)
    first.train(10)
    until(lambda: len(board.rows) == 10)
    board.away = Unsent("gone")  # the first tracker sends no more
    first.train(5)
    second_tracker, _ = online(run, board)
    second = Life(run, second_tracker, attempt=2, start=8)
    second.train(10)
    board.away = None
    second.end()
    assert board.rows == wanted(run)
    assert [row.step for row in board.rows] == list(range(1, 19))
    first.tracker.close()
    assert board.rows == wanted(run)


def test_files_for_later_outlast_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written offline: nobody would ask again what a moment's failure has cost."""
    taken: list[bytes] = []

    class Files(Memory):
        def __init__(self, run: Store) -> None:
            super().__init__()
            self.run = run

        def start(self, plan: Plan, attempt: int) -> None:
            self.run.create("tracking/wandb.json", b"{}")
            taken.append(self.run.read("tracking/wandb.json"))

    monkeypatch.setattr(wandb, "Offline", Files)
    said, plan = list[str](), jobs.plan(jobs.EBM, OFFLINE)
    tracker = make(plan, FailingStore(MemoryStore(), lambda number: number <= 2), tell=said.append)
    tracker.start(plan, 1)
    tracker.close()
    assert (taken, said) == ([b"{}"], [])

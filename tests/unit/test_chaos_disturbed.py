"""A store under faults: a good store without them, and with them exactly as bad as asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contract.store_suite import StoreSuite
from fakes import MemoryStore
from lehr.chaos.board import Board
from lehr.chaos.disturbed import PATIENCE_S, Disturbed, Windows
from lehr.chaos.faults import Outage
from lehr.errors import StorageDenied, StorageError
from lehr.store import Store, connect, growing
from lehr.store.growing import Growing

Make = Callable[..., tuple[Disturbed, MemoryStore, "Time"]]


class Time:
    """Seconds that pass only by sleeping."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A disturbed store whose faults have all just begun, the store below it, and the time."""

    def made(*outages: Outage) -> tuple[Disturbed, MemoryStore, Time]:
        board, time, below = Board.make(tmp_path / "board", outages), Time(), MemoryStore()
        board.clock = time
        for index in range(len(outages)):
            assert board.strike(index, step=1, rank=0, attempt=1)
        return Disturbed(below, Windows(board, rank=0, sleep=time.sleep)), below, time

    return made


def calm(tmp_path: Path, store: Store) -> Store:
    """Disturbed by faults of every kind, none of which has begun."""
    kinds = ("503", "500", "403", "refuse", "hang", "cut", "lost")
    tmp_path.mkdir(exist_ok=True)
    board = Board.make(tmp_path / "board", [Outage(kind, 60.0, 5) for kind in kinds])
    return Disturbed(store, Windows(board, rank=0))


class TestBeforeItsFaults(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return calm(tmp_path, MemoryStore())


class TestBeforeItsFaultsInAFolder(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return calm(tmp_path, connect(str(tmp_path / "store")))


class TestBelow(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return calm(tmp_path, MemoryStore()).below("further").below("in")


class TestSlow(StoreSuite):
    """A slow store is a good store."""

    @pytest.fixture
    def store(self, make: Make) -> Store:
        return make(Outage("slow", None, 1, factor=2.0))[0]


class TestAfterItsFaults(StoreSuite):
    @pytest.fixture
    def store(self, make: Make) -> Store:
        store, _, time = make(Outage("503", 30.0, 1), Outage("lost", 20.0, 1))
        time.sleep(30.0)
        return store


CALLS: dict[str, Callable[[Store, Path], object]] = {
    "read": lambda store, file: store.read("k"),
    "write": lambda store, file: store.write("k", b"new"),
    "put": lambda store, file: store.put("k", file),
    "create": lambda store, file: store.create("free", b"new"),
    "append": lambda store, file: store.append("k", b"new"),
    "list": lambda store, file: store.list(),
    "folders": lambda store, file: store.folders(),
    "size": lambda store, file: store.size("k"),
    "delete": lambda store, file: store.delete("k"),
    "below": lambda store, file: store.below("a").read("k"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"12345")
    return tmp_path / "file"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["503", "500", "403", "refuse", "cut"])
def test_every_call_fails_and_changes_nothing(call: str, kind: str, make: Make, file: Path) -> None:
    store, below, time = make(Outage(kind, 30.0, 1))
    below.objects = {"k": b"old", "a/k": b"1"}
    before = dict(below.objects)
    with pytest.raises(StorageError, match="a fault that was asked for") as raised:
        CALLS[call](store, file)
    assert isinstance(raised.value, StorageDenied) is (kind == "403")
    assert below.objects == before
    time.sleep(29.9)
    with pytest.raises(StorageError):
        CALLS[call](store, file)
    time.sleep(0.2)
    CALLS[call](store, file)


@pytest.mark.parametrize("call", ["write", "put", "create", "append", "delete"])
def test_a_lost_answer_is_of_what_was_done(call: str, make: Make, file: Path) -> None:
    store, below, _ = make(Outage("lost", 30.0, 1))
    below.objects = {"k": b"old"}
    with pytest.raises(StorageError, match="its answer lost"):
        CALLS[call](store, file)
    assert below.objects != {"k": b"old"}


def test_a_call_hangs_until_the_fault_is_over(make: Make) -> None:
    store, below, time = make(Outage("hang", 10.0, 1))
    store.write("k", b"1")
    assert time.slept == pytest.approx(10.0, abs=0.1)
    assert below.objects == {"k": b"1"}


def test_a_client_does_not_wait_for_ever(make: Make) -> None:
    store, below, time = make(Outage("hang", None, 1))
    with pytest.raises(StorageError, match="no answer"):
        store.write("k", b"1")
    assert time.slept == pytest.approx(PATIENCE_S, abs=0.1)
    assert below.objects == {}


def test_a_rate_makes_large_things_slow(make: Make, file: Path) -> None:
    store, _, time = make(Outage("slow", 100.0, 1, rate=10.0))
    store.put("k", file)
    assert time.slept == pytest.approx(0.5, abs=0.05)
    store.write("k", b"1" * 20)
    assert time.slept == pytest.approx(2.5, abs=0.05)
    store.read("k")
    assert time.slept == pytest.approx(4.5, abs=0.05)
    store.size("k")
    assert time.slept == pytest.approx(4.5, abs=0.05)
    store.write("k", b"1" * 10**6)
    assert time.slept == pytest.approx(100.0, abs=0.2)  # the rest travels when the fault is over


def test_text_grows_as_it_does_without_faults(tmp_path: Path) -> None:
    """Readers look at the store itself: in a folder they expect one file, elsewhere segments."""
    for below in (connect(str(tmp_path / "store")), MemoryStore()):
        store = calm(tmp_path / type(below).__name__, below)
        assert store.local_path("k") == below.local_path("k")
        text = Growing(store, "k", limit=3)
        for data in (b"12", b"345", b"6"):
            text.append(data)
        assert growing.read(below, "k") == b"123456"


def test_faults_begin_for_every_process_at_once(tmp_path: Path) -> None:
    """Two boards on one folder are two processes."""
    one = Board.make(tmp_path / "board", [Outage("503", 30.0, 4)])
    other = Board(one.folder)
    store = Disturbed(MemoryStore(), Windows(other, rank=1))
    store.write("k", b"1")
    assert one.strike(0, step=4, rank=0, attempt=2)
    with pytest.raises(StorageError):
        store.write("k", b"2")
    assert not other.strike(0, step=4, rank=1, attempt=2), "it strikes once"
    struck = other.struck(0)
    assert struck is not None
    assert (struck.step, struck.rank, struck.attempt) == (4, 0, 2)
    [note] = one.notes(0)
    assert (note["rank"], note["verb"], note["key"]) == (1, "write", "k")

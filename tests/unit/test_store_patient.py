"""Patience: what fails is tried again until it works or the time is over, and is done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contract.store_suite import StoreSuite
from fakes import FailingStore, MemoryStore
from lehr.errors import KeyMissing, StorageDenied, StorageError
from lehr.store import Store
from lehr.store.patient import Clock, Patient


class Time:
    """Passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self, share: float = 1.0) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep, random=lambda: share)


class Refusing(MemoryStore):
    """Answers nothing for a number of calls."""

    def __init__(self, error: StorageError, calls: int) -> None:
        super().__init__()
        self.error, self.calls = error, calls

    def _refuse(self) -> None:
        self.calls -= 1
        if self.calls >= 0:
            raise self.error

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        self._refuse()
        return super().read(key, start, end)

    def list(self, prefix: str = "") -> list[str]:
        self._refuse()
        return super().list(prefix)

    def size(self, key: str) -> int | None:
        self._refuse()
        return super().size(key)


def twice(number: int) -> bool:
    """Each change works at its third try, also where it takes two changes to find out."""
    return number % 3 != 0


class TestPatience(StoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return Patient(MemoryStore())


class TestPatienceOverFailures(StoreSuite):
    @pytest.fixture(params=[False, True], ids=["before", "after"])
    def store(self, request: pytest.FixtureRequest) -> Store:
        failing = FailingStore(MemoryStore(), twice, after=request.param)
        return Patient(failing, clock=Time().clock())


def change(verb: str, store: Store, folder: Path) -> object:
    (folder / "file").write_bytes(b"new")
    verbs: dict[str, Callable[[], object]] = {
        "write": lambda: store.write("k", b"new"),
        "put": lambda: store.put("k", folder / "file"),
        "create": lambda: store.create("fresh", b"new"),
        "append": lambda: store.append("k", b"new"),
        "delete": lambda: store.delete("k"),
    }
    return verbs[verb]()


RESULTS: dict[str, dict[str, bytes]] = {
    "write": {"k": b"new"},
    "put": {"k": b"new"},
    "create": {"k": b"old", "fresh": b"new"},
    "append": {"k": b"oldnew"},
    "delete": {},
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verb", RESULTS)
def test_a_change_is_done_once(verb: str, after: bool, tmp_path: Path) -> None:
    memory, time = MemoryStore(), Time()
    memory.write("k", b"old")
    failing = FailingStore(memory, lambda number: number < 4, after=after)
    answer = change(verb, Patient(failing, clock=time.clock()), tmp_path)
    assert memory.objects == RESULTS[verb]
    assert answer is (True if verb == "create" else None)
    # what has worked all the same is seen to have, where trying again would not be the same
    assert len(time.pauses) == (1 if verb in ("append", "create") and after else 3)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verb", RESULTS)
def test_in_the_end_the_last_error_is_raised(verb: str, after: bool, tmp_path: Path) -> None:
    time = Time()
    store = Patient(FailingStore(MemoryStore(), lambda number: True, after=after), clock=time.clock())
    if verb in ("create", "append") and after:  # seen to have worked
        change(verb, store, tmp_path)
        return
    with pytest.raises(StorageError, match=r"change \d+ fails"):
        change(verb, store, tmp_path)
    assert time.now == 120


def test_what_another_created_is_not_ours() -> None:
    memory = MemoryStore()
    memory.write("claim", b"theirs")
    store = Patient(FailingStore(memory, lambda number: number == 1), clock=Time().clock())
    assert store.create("claim", b"ours") is False
    assert memory.read("claim") == b"theirs"


def test_the_same_is_not_created_twice_without_a_failure() -> None:
    store = Patient(MemoryStore())
    assert store.create("claim", b"") is True
    assert store.create("claim", b"") is False


def test_pauses_grow_up_to_a_bound() -> None:
    time = Time()
    store = Patient(Refusing(StorageError("no"), 9), pause_s=(1.0, 5.0), clock=time.clock(share=0.5))
    assert store.list() == []
    assert time.pauses == [0.5, 1.0, 2.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5]


def test_the_last_try_is_at_the_end_of_the_patience() -> None:
    time = Time()
    store = Patient(Refusing(StorageError("no"), 99), patience_s=10, pause_s=(4.0, 4.0), clock=time.clock())
    with pytest.raises(StorageError, match="no"):
        store.size("k")
    assert time.pauses == [4.0, 4.0, 2.0]


def test_a_missing_key_is_no_reason_to_wait() -> None:
    time = Time()
    with pytest.raises(KeyMissing):
        Patient(MemoryStore(), clock=time.clock()).read("k")
    assert time.pauses == []


def test_a_refusal_is_tried_again_for_as_long_as_it_is_borne() -> None:
    time = Time()
    assert Patient(Refusing(StorageDenied("403"), 2), clock=time.clock()).list() == []
    assert len(time.pauses) == 2
    refusing = Refusing(StorageDenied("403"), 99)
    short = Patient(refusing, patience_s=1800, denied_s=6, pause_s=(4.0, 4.0), clock=time.clock())
    with pytest.raises(StorageDenied):
        short.list()
    assert time.pauses[2:] == [4.0, 2.0]
    other = Patient(Refusing(StorageError("503"), 9), denied_s=0, pause_s=(4.0, 4.0), clock=time.clock())
    assert other.list() == [], "an outage is no refusal"


def test_an_outage_is_told_once_and_its_end_once() -> None:
    time, told = Time(), []
    inner = Refusing(StorageError("refused"), 6)
    store = Patient(inner, patience_s=1.5, pause_s=(1.0, 1.0), tell=told.append, clock=time.clock())
    for _ in range(2):
        with pytest.raises(StorageError):
            store.below("run").list()
    assert told == ["storage fails, trying again: refused"]
    store.list()
    store.list()
    assert told[1:] == ["fake://store: storage answers again, after 3 s"]
    inner.calls = 1
    store.list()
    assert len(told) == 4


def test_below_keeps_the_patience() -> None:
    time = Time()
    store = Patient(Refusing(StorageError("no"), 2), clock=time.clock()).below("a").below("b")
    assert store.list() == []
    assert len(time.pauses) == 2
    assert store.url == "fake://store/a/b"

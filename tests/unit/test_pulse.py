"""The sign of life: the last word is what a run came to, whatever the storage does while it is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fakes import FailingStore, MemoryStore
from lehr import journal, status
from lehr.fence import Fence
from lehr.status import Status
from lehr.store import Store
from lehr.worker import pulse
from lehr.worker.clock import StopRequest
from lehr.worker.pulse import Pulse

FIRST = Status("starting", 0, 10, attempt=1)


def begun(store: Store, told: Callable[[Status], None] | None = None) -> Pulse:
    return Pulse(store, FIRST, StopRequest(None), fence=Fence(store, 1), told=told)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PERIOD_S", 60.0)  # no beat before the end
    monkeypatch.setattr(pulse, "RETRY_S", 0.01)


def test_the_last_status_is_tried_again() -> None:
    store = MemoryStore()
    begun(FailingStore(store, lambda number: number <= 3)).close("completed", 10)
    said = status.read(store)
    assert said is not None
    assert (said.status, said.step) == ("completed", 10)


def test_a_store_that_fails_on_is_given_up() -> None:
    began = time.monotonic()
    begun(FailingStore(MemoryStore(), lambda number: True)).close("failed", 3, patience_s=0.2)
    assert time.monotonic() - began < 30


def test_a_store_that_hangs_is_given_up() -> None:
    answer = threading.Event()

    class Hanging(MemoryStore):
        def size(self, key: str) -> int | None:
            answer.wait(60)
            return super().size(key)

    began = time.monotonic()
    begun(Hanging()).close("failed", 3, patience_s=0.2)
    assert time.monotonic() - began < 30
    answer.set()


def test_an_attempt_that_was_overtaken_says_nothing_and_does_not_wait() -> None:
    store = MemoryStore()
    journal.claim_attempt(store)
    beat = begun(store)
    journal.claim_attempt(store)
    began = time.monotonic()
    beat.close("failed", 3, patience_s=60.0)
    assert time.monotonic() - began < 30
    assert status.read(store) is None


def test_a_view_that_breaks_does_not_end_it() -> None:
    store, calls = MemoryStore(), list[Status]()

    def told(said: Status) -> None:
        calls.append(said)
        if len(calls) == 1:
            raise ZeroDivisionError

    begun(store, told).close("completed", 10)
    assert [said.status for said in calls] == ["completed", "completed"]

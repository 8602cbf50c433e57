"""The run's diary: what is said is stored, whatever the store does, and attempts merge into one story."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FailingStore, MemoryStore
from lehr import journal, status, store
from lehr.errors import StorageError, Superseded
from lehr.fence import Fence
from lehr.journal import Journal

NEVER_S = 3600.0  # no flush by the clock


def write(place: MemoryStore, attempt: int, from_step: int, steps: range, value: float = 0.0) -> None:
    """One attempt's journal with a metric a step."""
    diary = Journal(place, attempt, flush_s=NEVER_S)
    diary.start(from_step)
    for step in steps:
        diary.metrics(step, {"train/loss": value + step})
    diary.close()


def losses(entries: list[dict[str, Any]]) -> dict[int, float]:
    return {e["step"]: e["values"]["train/loss"] for e in entries if e["type"] == "metrics"}


def test_lines_are_as_the_contract_says() -> None:
    place, ticks = MemoryStore(), itertools.count(100)
    diary = Journal(place, 3, clock=lambda: float(next(ticks)))
    diary.start(10, workers=2)
    diary.metrics(11, {"train/loss": 0.5})
    diary.event("checkpoint", 12, checkpoint="step-00000012.a3", bytes=7)
    diary.event("samples")
    diary.end(12, "completed")
    diary.close()
    lines = [json.loads(line) for line in place.read("journal/attempt-0003.jsonl").splitlines()]
    assert lines == [
        {"type": "start", "time": 100.0, "attempt": 3, "step": 10, "from_step": 10, "workers": 2},
        {"type": "metrics", "time": 101.0, "attempt": 3, "step": 11, "values": {"train/loss": 0.5}},
        {"type": "event", "time": 102.0, "attempt": 3, "step": 12, "event": "checkpoint",
         "checkpoint": "step-00000012.a3", "bytes": 7},
        {"type": "event", "time": 103.0, "attempt": 3, "step": None, "event": "samples"},
        {"type": "end", "time": 104.0, "attempt": 3, "step": 12, "outcome": "completed"},
    ]  # fmt: skip
    assert journal.read_attempt(place, 3) == lines


def test_an_entry_is_returned_as_it_will_be_read() -> None:
    place = MemoryStore()
    diary = Journal(place, 1)
    values = {"a": np.float32(0.1), "b": np.int64(3), "c": float("inf"), "d": -math.inf, "e": True}
    said = [
        diary.start(0, shape=(1, 2), versions={"numpy": "2"}),
        diary.metrics(1, values),
        diary.event("x", 2, attempt=99, time=5, array=np.arange(3), nothing=None, name="Übung"),
    ]
    diary.close()
    assert journal.read_attempt(place, 1) == said
    assert said[1]["values"] == {
        "a": float(np.float32(0.1)),
        "b": 3,
        "c": math.inf,
        "d": -math.inf,
        "e": True,
    }
    assert said[2]["attempt"] == 1, "fields do not overwrite what every entry has"


def test_numbers_that_are_not_finite_are_words_in_the_file() -> None:
    place = MemoryStore()
    diary = Journal(place, 1)
    diary.metrics(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float32("nan")})
    diary.event("diverged", 1, values=[math.nan, 1.0], message="nan")
    diary.close()
    first, second = (
        json.loads(line, parse_constant=pytest.fail) for line in place.read(journal.key(1)).splitlines()
    )
    assert first["values"] == {"a": "nan", "b": "inf", "c": "-inf", "d": "nan"}
    assert second["values"] == ["nan", 1.0]
    read = journal.read_attempt(place, 1)
    assert math.isnan(read[0]["values"]["a"])
    assert math.isnan(read[0]["values"]["d"])
    assert (read[0]["values"]["b"], read[0]["values"]["c"]) == (math.inf, -math.inf)
    assert read[1]["message"] == "nan"


@given(st.dictionaries(st.text(min_size=1), st.floats() | st.integers(-(2**60), 2**60)))
def test_every_number_comes_back_exactly(values: dict[str, float]) -> None:
    text = json.dumps(journal.encode(values), allow_nan=False)
    back = journal.numbers(json.loads(text))
    assert back.keys() == values.keys()
    assert all(
        back[name] == value or (math.isnan(value) and math.isnan(back[name]))
        for name, value in values.items()
    )


# --- attempts -------------------------------------------------------------------------------------------


def test_a_later_attempt_replaces_what_was_said_after_its_start() -> None:
    place = MemoryStore()
    write(place, 1, 0, range(1, 9))
    write(place, 2, 5, range(6, 8), value=100.0)
    write(place, 3, 6, range(7, 10), value=200.0)
    story = journal.read(place)
    assert losses(story) == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 106, 7: 207, 8: 208, 9: 209}
    steps = [entry["step"] for entry in story if entry["type"] == "metrics"]
    assert steps == sorted(steps)
    assert [e["from_step"] for e in story if e["type"] == "start"] == [0, 5, 6]


def test_an_attempt_that_never_started_replaces_nothing() -> None:
    place = MemoryStore()
    write(place, 1, 0, range(1, 4))
    assert journal.claim_attempt(place) == 2
    diary = Journal(place, journal.claim_attempt(place))
    diary.event("failed", message="no GPU")
    diary.close()
    assert losses(journal.read(place)) == {1: 1, 2: 2, 3: 3}
    assert journal.read(place)[-1]["event"] == "failed"
    assert journal.attempts(place) == [1, 2, 3]


def test_an_event_without_a_step_is_kept() -> None:
    place = MemoryStore()
    diary = Journal(place, 1)
    diary.start(0)
    diary.event("note")
    diary.event("late", 7)
    diary.close()
    write(place, 2, 5, range(6, 7))
    assert [e["event"] for e in journal.read(place) if e["type"] == "event"] == ["note"]


def test_a_run_without_a_journal_has_no_story() -> None:
    place = MemoryStore()
    place.write("journal/notes.txt", b"")
    place.write("journal/attempt-0001.jsonl.bak", b"")
    assert journal.read(place) == []
    assert journal.latest_attempt(place) == 0


def test_more_than_9999_attempts_are_in_order() -> None:
    place = MemoryStore()
    for number in (2, 9999, 10000):
        place.create(journal.key(number), b"")
    assert journal.attempts(place) == [2, 9999, 10000]
    assert journal.claim_attempt(place) == 10001


def test_those_who_claim_together_get_different_numbers(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def claim(_: int) -> int:
        together.wait()
        return journal.claim_attempt(store.connect(str(tmp_path)))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [1, 2, 3, 4, 5, 6, 7, 8]


# --- what a kill leaves --------------------------------------------------------------------------------


def test_a_torn_line_is_left_out_wherever_the_tear_is() -> None:
    place = MemoryStore()
    write(place, 1, 0, range(1, 3))
    whole = place.read(journal.key(1))
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole)):
        place.write(journal.key(1), whole[:length])
        entries = journal.read_attempt(place, 1)
        ends = list(itertools.accumulate(map(len, lines)))
        assert len(entries) in {sum(end <= length for end in ends), sum(end - 1 <= length for end in ends)}


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[]",
        b"1",
        b'"text"',
        b"{}",
        b'{"type": "metrics"}',
        b"null",
        b'{"type": "metrics", "time": 1, "attempt": 1, "step": 1}',
        b'{"type": "start", "time": 1, "attempt": 1, "step": 1}',
        b'{"type": "other", "time": 1, "attempt": 1, "step": 1}',
    ],
)
def test_what_is_no_entry_is_left_out(line: bytes) -> None:
    place = MemoryStore()
    write(place, 1, 0, range(1, 2))
    place.append(journal.key(1), line + b"\n")
    assert losses(journal.read(place)) == {1: 1.0}


def test_a_tail_is_the_last_whole_entries() -> None:
    place = MemoryStore()
    write(place, 1, 0, range(1, 200))
    everything = journal.read_attempt(place, 1)
    for limit in (100, 101, 150, 1000, 10**6):
        last = journal.tail(place, 1, limit=limit)
        assert everything[len(everything) - len(last) :] == last
    assert len(journal.tail(place, 1, limit=1000)) >= 8
    assert journal.tail(place, 2) == []


# --- stores that are slow or fail ----------------------------------------------------------------------


def test_metrics_wait_for_others_and_events_do_not() -> None:
    place = FailingStore(MemoryStore(), lambda number: False)
    diary = Journal(place, 1, flush_s=NEVER_S)
    for step in range(100):
        diary.metrics(step, {"a": step})
    assert place.changes == []
    diary.event("now", 100)
    assert len(place.changes) == 1
    assert len(journal.read_attempt(place, 1)) == 101
    diary.close()
    assert len(place.changes) == 1, "nothing was left to store"


def test_metrics_are_stored_after_flush_s() -> None:
    place = MemoryStore()
    diary = Journal(place, 1, flush_s=0.02)
    diary.metrics(1, {"a": 1})
    until = time.monotonic() + 90
    while not place.objects and time.monotonic() < until:
        time.sleep(0.01)
    assert len(journal.read_attempt(place, 1)) == 1
    diary.close()


def test_flush_tells_whether_all_is_stored() -> None:
    place = FailingStore(MemoryStore(), lambda number: number == 1)
    diary = Journal(place, 1, flush_s=NEVER_S)
    diary.metrics(1, {"a": 1})
    assert diary.flush() is False
    assert isinstance(diary.problem, StorageError)
    assert diary.flush() is True
    assert diary.problem is None
    diary.close()


def test_draining_outlasts_a_moment_of_failure_and_no_more() -> None:
    diary = Journal(FailingStore(MemoryStore(), lambda number: number <= 3), 1, flush_s=NEVER_S)
    diary.end(1, "completed")
    assert diary.drain(30.0) is True
    diary.close()
    diary = Journal(FailingStore(MemoryStore(), lambda number: True), 1, flush_s=NEVER_S)
    diary.end(1, "completed")
    began = time.monotonic()
    assert diary.drain(0.2) is False
    diary.close(0.2)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("failing", range(1, 12))
def test_a_failing_store_loses_and_repeats_nothing(failing: int, after: bool) -> None:
    inner = MemoryStore()
    place = FailingStore(inner, lambda number: failing <= number < failing + 3, after=after)
    diary = Journal(place, 1, flush_s=NEVER_S)
    said = [diary.start(0)]
    for step in range(1, 12):
        said.append(diary.metrics(step, {"a": step}))
        said.append(diary.event("tick", step))
    diary.close()
    assert diary.problem is None
    assert journal.read_attempt(inner, 1) == said


class Files(MemoryStore):
    """Says that its keys are files, so that they are appended to."""

    def local_path(self, key: str) -> Path:
        return Path(key)


@pytest.mark.parametrize("cut", [1, 10, -20, -1, None], ids=str)
def test_a_line_torn_by_the_store_swallows_no_other(cut: int | None) -> None:
    class Tearing(Files):
        torn = False

        def append(self, key: str, data: bytes) -> None:
            if not self.torn:
                self.torn = True
                super().append(key, data[:cut])
                raise StorageError("torn")
            super().append(key, data)

    place = Tearing()
    diary = Journal(place, 1, flush_s=NEVER_S)
    said = [diary.metrics(1, {"a": 1}), diary.metrics(2, {"a": 2})]
    assert diary.flush() is False
    said.append(diary.metrics(3, {"a": 3}))
    diary.close()
    assert journal.read_attempt(place, 1) == said


def test_an_error_that_is_none_of_ours_ends_nothing() -> None:
    class Broken(MemoryStore):
        def write(self, key: str, data: bytes) -> None:
            raise RuntimeError("cloud library of the day")

    diary = Journal(Broken(), 1)
    diary.start(0)
    diary.event("x", 1)
    diary.close(patience_s=0.1)
    assert "cloud library" in str(diary.problem)


def test_a_store_that_hangs_does_not_hold_up_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "EVENT_PATIENCE_S", 0.05)
    answer = threading.Event()

    class Hanging(MemoryStore):
        def write(self, key: str, data: bytes) -> None:
            answer.wait(30)
            super().write(key, data)

    place = Hanging()
    diary = Journal(place, 1)
    began = time.monotonic()
    for step in range(200):
        diary.event("x", step)
    assert time.monotonic() - began < 5, "it is waited for once, not 200 times"
    answer.set()
    diary.close()
    assert len(journal.read_attempt(place, 1)) == 200


def test_threads_may_write_together() -> None:
    place = MemoryStore()
    diary = Journal(place, 1, flush_s=0.001)

    def fill(name: int) -> None:
        for i in range(100):
            diary.metrics(i, {str(name): i})
            if i % 25 == 0:
                diary.event("x", i, thread=name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    diary.close()
    entries = journal.read_attempt(place, 1)
    for name in map(str, range(4)):
        assert [e["step"] for e in entries if name in e.get("values", {})] == list(range(100))
    assert sum(entry["type"] == "event" for entry in entries) == 16


def test_an_entry_costs_little() -> None:
    diary = Journal(MemoryStore(), 1)
    values = {f"train/metric_{i}": i / 7 for i in range(12)}
    began = time.perf_counter()
    for step in range(1000):
        diary.metrics(step, values)
    assert time.perf_counter() - began < 1.0, "a millisecond an entry would be too much already"
    diary.close()


# --- object stores ---------------------------------------------------------------------------------------


def test_a_claim_stays_and_segments_are_no_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal.Growing.__init__, "__defaults__", (500,))
    place = MemoryStore()
    number = journal.claim_attempt(place)
    claim = place.read(journal.key(number))
    write(place, number, 0, range(1, 40))
    assert place.read(journal.key(number)).startswith(claim)
    assert len(place.list("journal")) > 4
    assert max(map(len, place.objects.values())) <= 500
    assert journal.attempts(place) == [1]
    assert losses(journal.read(place)) == {step: step for step in range(1, 40)}
    assert journal.read_attempt(place, 1)[-3:] == journal.tail(place, 1, limit=400)[-3:]
    assert journal.claim_attempt(place) == 2


def test_events_in_quick_succession_are_stored_together() -> None:
    place = FailingStore(MemoryStore(), lambda number: False)
    diary = Journal(place, 1, flush_s=NEVER_S)
    for step in range(50):
        diary.event("tick", step)
    assert len(place.changes) == 1, "the first at once"
    until = time.monotonic() + 90
    while len(place.changes) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(journal.read_attempt(place, 1)) == 50, "and the others a second later, without a flush"
    diary.close()
    assert len(place.changes) == 2


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("kind", [MemoryStore, Files])
def test_views_hear_of_entries_once_in_order_and_only_of_stored_ones(
    kind: type[MemoryStore], after: bool
) -> None:
    inner, heard = kind(), []
    place = FailingStore(inner, lambda number: number % 3 != 0, after=after)

    def hear(entries: list[dict[str, Any]]) -> None:
        assert all(entry in journal.read_attempt(inner, 1) for entry in entries)
        heard.extend(entries)

    diary = Journal(place, 1, flush_s=NEVER_S, on_stored=hear)
    said = []
    for step in range(30):
        said.append(diary.metrics(step, {"a": step, "b": math.inf}))
        diary.flush()
    diary.close()
    assert heard == said == journal.read_attempt(inner, 1)


def test_a_view_that_fails_is_told_of_once_and_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    place, heard = MemoryStore(), []

    def hear(entries: list[dict[str, Any]]) -> None:
        heard.extend(entries)
        raise RuntimeError("a view")

    diary = Journal(place, 1, on_stored=hear)
    said = []
    for step in range(3):
        said.append(diary.metrics(step, {}))
        assert diary.flush()
    diary.close()
    assert heard == said == journal.read_attempt(place, 1)
    assert capsys.readouterr().err.count("RuntimeError") == 1


def test_nothing_is_stored_once_a_later_attempt_has_begun() -> None:
    place, heard = MemoryStore(), []
    assert journal.claim_attempt(place) == 1
    ticks = itertools.count(0, 100)
    diary = Journal(place, 1, flush_s=NEVER_S, on_stored=heard.extend,
                    fence=Fence(place, 1, now=lambda: float(next(ticks))))  # fmt: skip
    said = diary.start(0)
    assert journal.claim_attempt(place) == 2
    before = dict(place.objects)
    diary.metrics(1, {"a": 1})
    assert diary.flush() is False
    assert isinstance(diary.problem, Superseded)
    diary.event("late", 2)
    assert diary.flush() is False, "nothing more can be stored"
    began = time.monotonic()
    diary.close(patience_s=60)
    assert time.monotonic() - began < 30
    assert place.objects == before
    assert heard == [said]


def test_a_fence_that_cannot_tell_is_a_store_that_fails() -> None:
    class Unsure:
        tries = 0

        def check(self) -> None:
            self.tries += 1
            if self.tries < 3:
                raise StorageError("no answer")

    place, fence = MemoryStore(), Unsure()
    diary = Journal(place, 1, flush_s=NEVER_S, fence=fence)
    said = diary.metrics(1, {"a": 1})
    assert (diary.flush(), place.objects) == (False, {})
    diary.close()
    assert journal.read_attempt(place, 1) == [said]


# --- status --------------------------------------------------------------------------------------------


def test_status_is_what_was_written_last() -> None:
    place = MemoryStore()
    assert status.read(place) is None
    status.write(place, status.Status(status="starting", step=0, steps=10, attempt=1))
    status.write(place, status.Status(status="failed", step=7, steps=10, attempt=2, message="no\nmore"))
    found = status.read(place)
    assert found is not None
    assert (found.status, found.step, found.steps, found.attempt) == ("failed", 7, 10, 2)
    assert found.message == "no\nmore"
    assert abs(found.time - time.time()) < 60


def test_a_status_of_another_version_of_lehr_is_read() -> None:
    place = MemoryStore()
    told = {"status": "running", "step": 1, "steps": 2, "attempt": 1, "message": "", "time": 5.0}
    place.write(status.KEY, json.dumps(told).encode())
    assert status.read(place) == status.Status("running", 1, 2, 1, time=5.0, waiting=0)
    place.write(status.KEY, json.dumps(told | {"waiting": 3, "later": "x"}).encode())
    assert status.read(place) == status.Status("running", 1, 2, 1, time=5.0, waiting=3)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"status": "running"}', b"\xff"])
def test_a_status_that_cannot_be_read_is_none(data: bytes) -> None:
    place = MemoryStore()
    place.write(status.KEY, data)
    assert status.read(place) is None


@pytest.mark.parametrize(
    ("word", "age_s", "silent"),
    [("running", 59, False), ("running", 61, True), ("starting", 61, True), ("completed", 10**6, False)],
)
def test_only_the_living_can_fall_silent(word: str, age_s: float, silent: bool) -> None:
    found = status.Status(word, 1, 2, 1, time=1000.0)
    assert found.silent_s(1000.0 + age_s) == (age_s if silent else None)


def test_what_an_old_attempt_adds_after_it_was_sealed_is_not_read() -> None:
    run = MemoryStore()
    old = Journal(run, journal.claim_attempt(run))
    old.start(0)
    old.metrics(1, {"loss": 1.0})
    assert old.flush()
    new = Journal(run, journal.claim_attempt(run))
    new.start(1, sealed=journal.sizes(run, before=2))
    new.metrics(2, {"loss": 2.0})
    new.close()
    before = journal.read(run)
    old.event("thawed")  # of no step: the story would keep it
    old.close()
    assert "thawed" in run.read(journal.key(1)).decode()
    assert journal.read(run) == before
    assert [[entry["type"] for entry in life] for life in journal.lives(run)] == [
        ["start", "metrics"], ["start", "metrics"],
    ]  # fmt: skip
    assert len(journal.lives(run, until=1)) == 1


def test_the_least_seal_counts() -> None:
    run = MemoryStore()
    for attempt in (1, 2, 3):
        diary = Journal(run, journal.claim_attempt(run))
        diary.start(0, sealed={"1": 10_000 if attempt == 3 else 1})
        diary.close()
    assert journal.lives(run)[0] == []


def test_a_status_that_an_old_attempt_wrote_over_is_told_from_the_journal() -> None:
    run = MemoryStore()
    for attempt, step in ((1, 5), (2, 9)):
        assert journal.claim_attempt(run) == attempt
        diary = Journal(run, attempt)
        diary.start(step - 4)
        diary.metrics(step, {"loss": 1.0})
        status.write(run, status.Status("running", step, 10, attempt))
        if attempt == 2:
            diary.end(9, "stopped")
        diary.close()
    found = status.read(run)
    assert found is not None
    assert (found.status, found.attempt) == ("running", 2)  # its own word counts, while it is the newest
    status.write(run, status.Status("running", 5, 10, 1))  # attempt 1 thaws
    found = status.read(run)
    assert found is not None
    assert (found.status, found.step, found.steps, found.attempt) == ("stopped", 9, 10, 2)
    journal.claim_attempt(run)
    found = status.read(run)
    assert found is not None
    assert (found.status, found.attempt) == ("starting", 3)
